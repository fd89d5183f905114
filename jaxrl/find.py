"""Finds the parts of jaxrl by the names of their files: `find('envs', 'brax')` is the module `jaxrl.envs.brax`."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

from jaxrl.types import ConfigError


def names(folder: str) -> list[str]:
    """The parts that a folder offers, sorted; `folder` is as `find` takes it."""
    package = importlib.import_module(f"jaxrl.{folder}")
    helpers = getattr(package, "HELPERS", ())
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in helpers)


def find(folder: str, name: str) -> ModuleType:
    """The module called `name` in an extension folder, or at a dotted import path.

    Args:
        folder: 'envs', 'algorithms' or 'host.writers'.
        name: a file's name without .py, or 'your_package.your_module' for a private part.

    Raises:
        ConfigError: there is no such part; the message offers the nearest name.
    """
    known = names(folder)
    if name in known:
        return importlib.import_module(f"jaxrl.{folder}.{name}")
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{name!r} cannot be imported ({error}); is it on the PYTHONPATH?") from None
    raise ConfigError(f"{folder} has no {name!r}; {nearest(name, known)}")


def users(folder: str, name: str, key: str, contract: str) -> ModuleType:
    """The module of the user's that a key of the config names, with the function `make` that it must have.

    Args:
        folder, name: as `find` takes them.
        key: of the config, as the messages name it.
        contract: what `make` takes and gives, as the messages show it.

    Raises:
        ConfigError: there is no such module, it fails as it is imported, or it has no `make`.
    """
    setting = f"{key}={name!r}"
    try:
        module = find(folder, name)
    except ConfigError as mistake:
        raise ConfigError(f"{setting} cannot be: {mistake}") from None
    except Exception as mistake:  # a private part may fail in any way as it is imported
        cause = " ".join(f"{type(mistake).__name__}: {mistake}".split())
        raise ConfigError(f"{setting} cannot be imported ({cause}); correct that module.") from mistake
    if not hasattr(module, "make"):
        raise ConfigError(f"{setting} has no {contract}; add it.")
    return module


def function(path: str, key: str) -> Callable:
    """The user's function at 'package.module:function', which a key of the config names.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={path!r} cannot be imported ({error}); write 'package.module:function'.") from None


def nearest(name: str, known: list[str]) -> str:
    """A cure for a mistyped name: 'did you mean X?', or the whole list."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
