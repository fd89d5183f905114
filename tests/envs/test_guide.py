"""The code of docs/environments.md does what it says."""

import importlib
import pathlib
import re
import sys
import types

import jax
import pytest

import jaxrl
from jaxrl import library
from jaxrl.envs import brax

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "environments.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def line(tmp_path, monkeypatch):
    """The dotted path of the guide's suite, which lies where the guide says, on the Python path."""
    (suite,) = (block for block in BLOCKS if "def make(" in block)
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "line.py").write_text(suite)
    monkeypatch.syspath_prepend(tmp_path)
    return "mine.line"


def test_the_guides_suite_is_short_keeps_the_contract_and_is_learned(line, capsys):
    (suite,) = (block for block in BLOCKS if "def make(" in block)
    assert len(suite.strip().splitlines()) <= 45
    env = jaxrl.make_env(f"{line}/point", 4)
    assert library.check_env(env, 100).episodes == 20
    assert importlib.import_module("jaxrl.check_env").main([f"{line}/point", "--steps=40"]) == 0
    assert importlib.import_module("jaxrl.check_env").main([f"{line}/pint"]) == 2
    assert "did you mean 'point'" in capsys.readouterr().err
    sizes = {"num_envs": 32, "unroll_length": 20, "learning_rate": 3e-3}
    experiment = {"env": {"suite": line, "name": "point"}, "ppo": sizes, "network": {"hidden_sizes": (16,)}}
    source = jaxrl.build(jaxrl.configure(experiment | {"eval": {"episodes": 32}}))
    state = jax.jit(source.init)(jax.numpy.uint32(0), source.algorithm.hyper)
    evaluate, zero = jax.jit(source.evaluate), jax.numpy.uint32(0)
    before = evaluate(state.agent, zero, state.iterations)["eval/episode_return"]
    state, _ = jax.jit(source.epoch)(state, 40)
    after = evaluate(state.agent, zero, state.iterations)["eval/episode_return"]
    assert before < -5 and after > -3  # standing still costs 10 in the mean, the best about 1.3


def test_the_guides_first_lines_run(capsys):
    (lines,) = (block for block in BLOCKS if "check_env(" in block)
    small = lines.replace("brax/ant", "probe/clock")
    small = small.replace(', backend="spring"', "").replace("jaxrl.check_env", "check_env")
    exec(small, {"check_env": library.check_env})
    shown = capsys.readouterr().out
    assert "random steps" in shown and "Trajectory(obs=float32[100, 8, 2]" in shown


def test_the_guides_randomisation_draws_masses(monkeypatch):
    (lines,) = (block for block in BLOCKS if "tree_replace" in block)
    module = types.ModuleType("guides_physics")
    exec(lines, vars(module) | {"jax": jax}, vars(module))
    monkeypatch.setitem(sys.modules, "guides_physics", module)
    env = jaxrl.make_env("brax/inverted_pendulum", 8, randomization="guides_physics:lighter_or_heavier")
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    (mass,) = state.state[0]
    with brax.quiet():
        usual = brax._library().get_environment("inverted_pendulum", backend="spring").sys.link.inertia.mass
    share = mass / usual
    assert share.shape == (8, 2) and (share >= 0.8).all() and (share <= 1.2).all()
    assert len(set(share[:, 0].tolist())) == 8
