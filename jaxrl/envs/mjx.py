"""MJX, which Brax and Playground stand on, loaded without Warp where nobody wants that.

Its kernels for Warp take 1.5 s to import, more than all the rest of it, and are made for NVIDIA GPUs.
"""

import importlib.util
import sys

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
    hides = not warp and jax.default_backend() != "gpu" and "warp" not in sys.modules
    if hides:
        sys.modules["warp"] = None  # an import of it now fails as if it were not installed
    try:
        import mujoco.mjx  # noqa: F401
    finally:
        if hides:
            del sys.modules["warp"]
