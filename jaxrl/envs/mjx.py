"""MJX, which Brax and Playground stand on, loaded without what hardly anybody wants of it.

Its kernels for Warp take 1.5 s to import, more than all the rest of it, and are made for NVIDIA GPUs. Trimesh takes
0.3 s, and is for convex hulls of meshes.
"""

import contextlib
import importlib
import importlib.util
import sys
from types import ModuleType

import jax

from jaxrl.types import ConfigError


def load(warp: bool = False) -> None:
    """Imports mujoco.mjx; whoever imports it after that finds it as it is.

    Args:
        warp: somebody wants it, also where there is no GPU.

    Raises:
        ConfigError: it is wanted, and has been left out before.
    """
    if "mujoco.mjx" in sys.modules:
        from mujoco.mjx.warp import WARP_INSTALLED

        if warp and not WARP_INSTALLED and importlib.util.find_spec("warp"):
            raise ConfigError(
                "config.env.impl='warp' cannot be: MJX was loaded without Warp before, for another environment; make "
                "this one in a process of its own."
            )
        return
    hides = not warp and jax.default_backend() != "gpu"
    trimesh = _Later("trimesh")
    trimesh.Trimesh = object  # in an annotation, of which nothing comes
    # An import of None fails as if nothing were installed.
    with _standing_in("trimesh", trimesh), _standing_in("warp", None) if hides else contextlib.nullcontext():
        import mujoco.mjx  # noqa: F401
    del trimesh.Trimesh


class _Later(ModuleType):
    """A module that is imported when somebody asks for something in it."""

    def __getattr__(self, name):
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _standing_in(name, module):
    """What an import of `name` finds for a while, unless it has been imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
