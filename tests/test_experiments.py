"""Every experiment in experiments/: its config is valid, says nothing that is the default, and its program runs."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.host import config as configs
from jaxrl.host import keys, program, sharding

PATHS = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))
SHRUNK = {
    "ppo.num_envs": 4,
    "ppo.unroll_length": 2,
    "ppo.segment_length": 0,
    "ppo.num_minibatches": 1,
    "ppo.update_epochs": 1,
    "network.hidden_sizes": (8,),
    "eval.episodes": 0,
}


def named(path):
    return path.stem


def test_there_are_experiments():
    assert len(PATHS) >= 11


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_it_sets_only_what_differs_from_the_defaults(path):
    given = dict(keys.leaves(configs.load(str(path))))
    identity = {"env.name", "env.suite", "total_env_steps"}
    defaults = dict(keys.leaves(configs.resolve({"env": {"suite": given.get("env.suite", "brax")}})))
    assert not {name for name, value in given.items() if defaults[name] == value} - identity


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_its_docstring_has_the_command_and_the_result(path):
    text = path.read_text().split('"""')[1]
    assert f"python -m jaxrl.train --config=experiments/{path.name}" in text
    assert "Result" in text


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=named)
def test_it_builds_and_runs_one_shrunk_epoch(path):
    mesh = sharding.mesh(jax.devices()[:1])
    source = program.make(jaxrl.configure(path, SHRUNK), mesh)
    programs = program.compile(source, mesh, seed=0)
    number = jax.device_put(np.int32(2), sharding.replicated(mesh))
    state, metrics = programs.epoch(programs.init(), number)
    assert int(state.iterations) == 2
    assert np.isfinite(metrics["loss/policy"]) and np.isfinite(metrics["loss/value"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["generalized", "positional", "mjx"])
def test_every_backend_can_be_selected(backend):
    env = jaxrl.make_env("brax/inverted_pendulum", 4, backend=backend)

    @jax.jit
    def two_steps(key):
        state, _ = env.reset(key)
        state, _ = env.step(state, np.zeros((4, 1), np.float32))
        return env.step(state, np.zeros((4, 1), np.float32))[1]

    timestep = two_steps(jax.random.key(0))
    assert np.isfinite(timestep.obs).all() and (timestep.reward == 1).all()
