"""The libraries of the extra [export], imported when they are needed."""

import importlib
from types import ModuleType

from jaxrl.types import ConfigError


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name.split('.')[0]} cannot be imported ({error}); pip install 'jaxrl[export]'.") from error


def onnx() -> ModuleType:
    """The file format and its helpers."""
    return _library("onnx")


def onnxruntime() -> ModuleType:
    """What runs the graph."""
    return _library("onnxruntime")


def safetensors() -> ModuleType:
    """Arrays of numpy in a file."""
    return _library("safetensors.numpy")


def jax_export() -> ModuleType:
    """jax.export, with the library by which it writes and reads."""
    _library("flatbuffers")
    return importlib.import_module("jax.export")
