"""MJX is loaded without Warp where that cannot run, and Warp is left for others to import."""

import subprocess
import sys

import jax
import pytest

PROGRAM = """
from jaxrl.envs import mjx
mjx.load()
print("mujoco.mjx" in sys.modules, "warp" in sys.modules)
import warp
print(warp.MINE)
"""


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="MJX may want Warp there")
def test_warp_is_imported_by_nobody_but_who_asks_for_it(tmp_path):
    (tmp_path / "warp.py").write_text("MINE = 'mine'")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.splitlines()[-2:] == ["True False", "mine"]
