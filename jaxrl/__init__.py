"""jaxrl: reinforcement learning as pure functions, one compiled epoch at a time.

`train`, `iterate`, `sweep`, `plot_training`, `play`, `view`, `load_policy`, `export`, `configure`, `build`,
`make_env`, `check_env` and `rollout` are for notebooks and scripts; the floors below them are public too:
`jaxrl.functional.returns.gae(...)`.
"""

import importlib
import sys
from types import ModuleType

_PUBLIC = (
    "build",
    "check_env",
    "configure",
    "export",
    "iterate",
    "load_policy",
    "make_env",
    "play",
    "plot_training",
    "rollout",
    "sweep",
    "train",
    "view",
)
_FLOORS = ("acting", "algorithms", "envs", "functional", "host", "networks", "plot", "types")

__all__ = [*_PUBLIC, *_FLOORS]


def __getattr__(name: str):
    # Not before it is asked for: JAX takes seconds to load, and a mistyped command line should not.
    if name in _PUBLIC:
        return getattr(importlib.import_module("jaxrl.library"), name)
    if name in _FLOORS:
        return importlib.import_module(f"jaxrl.{name}")
    raise AttributeError(f"module 'jaxrl' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


class _Package(ModuleType):
    """The package, whose functions stay what they are when a door of the same name, `jaxrl.train`, is imported."""

    def __setattr__(self, name, value):
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
