"""MJX is loaded without Warp where that cannot run, and without Trimesh until a hull is made; both stay importable."""

import subprocess
import sys

import jax
import pytest

ALONE = """
from jaxrl.envs import mjx
mjx.load()
print("mujoco.mjx" in sys.modules, "warp" in sys.modules)
import warp
print(warp.MINE)
"""

WANTED = """
from jaxrl.envs import mjx
from jaxrl.types import ConfigError
mjx.load(**before)
try:
    mjx.load(warp=True)
    from mujoco.mjx import warp
    print(warp.WARP_INSTALLED)
except ConfigError as error:
    print(error)
"""

HULL = """
import sys
from jaxrl.envs import mjx
mjx.load()
print("trimesh" in sys.modules)
import mujoco
from mujoco.mjx._src import mesh
model = mujoco.MjModel.from_xml_string('''<mujoco>
  <asset><mesh name="corner" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset>
  <worldbody><geom type="mesh" mesh="corner"/></worldbody></mujoco>''')
print(len(mesh.convex(model, 0).vert))
import trimesh
print(trimesh.creation.box().volume, trimesh.Trimesh is mesh.trimesh.Trimesh)
"""


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="MJX may want Warp there")
def test_warp_is_imported_by_nobody_but_who_asks_for_it(tmp_path):
    (tmp_path / "warp.py").write_text("MINE = 'mine'")
    assert said_by(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ALONE}")[-2:] == ["True False", "mine"]


@pytest.mark.playground
def test_warp_is_loaded_where_it_is_asked_for():
    assert said_by(f"before = dict(warp=True)\n{WANTED}")[-1] == "True"


@pytest.mark.playground
@pytest.mark.skipif(jax.default_backend() == "gpu", reason="MJX has loaded Warp there")
def test_warp_that_has_been_left_out_is_one_line():
    assert said_by(f"before = {{}}\n{WANTED}")[-1] == (
        "config.env.impl='warp' cannot be: MJX was loaded without Warp before, for another environment; make "
        "this one in a process of its own."
    )


def test_trimesh_is_imported_when_the_first_hull_is_made():
    assert said_by(HULL)[-3:] == ["False", "4", "1.0 True"]


def said_by(program):
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return child.stdout.splitlines()
