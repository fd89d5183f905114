"""MJX, which Brax and Playground stand on, loaded without Warp where that cannot run.

Its kernels for Warp take 1.5 s to import, more than all the rest of it, and want an NVIDIA GPU.
"""

import sys

import jax


def load() -> None:
    """Imports mujoco.mjx; whoever imports it after that finds it as it is."""
    if "mujoco.mjx" in sys.modules:
        return
    hides = jax.default_backend() != "gpu" and "warp" not in sys.modules
    if hides:
        sys.modules["warp"] = None  # an import of it now fails as if it were not installed
    try:
        import mujoco.mjx  # noqa: F401
    finally:
        if hides:
            del sys.modules["warp"]
