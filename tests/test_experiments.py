"""Every experiment in experiments/: its config is valid, says nothing that is the default, its program runs, and what
it has learned can be played and drawn."""

import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.host import checkpoint, keys, program, run_folder, sharding
from jaxrl.host import config as configs
from jaxrl.types import ConfigError

play = importlib.import_module("jaxrl.play")
PATHS = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))
# Those of Brax differ in their sizes alone: what plays two of them plays all.
PLAYED = [path for path in PATHS if '"suite"' in path.read_text() or path.stem in ("ant", "ant_masked")]
SHRUNK = {
    "ppo.num_envs": 4,
    "ppo.unroll_length": 2,
    "ppo.segment_length": 0,
    "ppo.num_minibatches": 1,
    "ppo.update_epochs": 1,
    "network.hidden_sizes": (8,),
    "eval.episodes": 0,
    "eval.max_steps": 6,
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


def test_ant_may_be_fast_and_nothing_else():
    ant = PATHS[0].with_name("ant.py")
    assert configs.load(f"{ant}:fast").ppo.num_envs == 1024
    with pytest.raises(ConfigError, match=r"ant.py:slow does not exist; leave out :slow, or write :fast"):
        configs.load(f"{ant}:slow")


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_its_docstring_has_the_command_and_the_result(path):
    text = path.read_text().split('"""')[1]
    assert f"python -m jaxrl.train --config=experiments/{path.name}" in text
    assert "Result" in text


@pytest.fixture(scope="module")
def compiled_quickly():
    """XLA leaves out what costs it most: a program that plays six steps need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", params=PATHS, ids=named)
def trained(request, tmp_path_factory, compiled_quickly):
    """(run folder, state, metrics) of one shrunk epoch of an experiment: compiled once for all that is asked of it."""
    config = jaxrl.configure(request.param, SHRUNK)
    mesh = sharding.mesh(jax.devices()[:1])
    programs = program.compile(program.make(config, mesh), mesh, seed=0)
    number = jax.device_put(np.int32(2), sharding.replicated(mesh))
    state, metrics = programs.epoch(programs.init(), number)
    folder = run_folder.open_run(tmp_path_factory.mktemp("runs") / "run", config, [], {})
    saver = checkpoint.Checkpointer(folder / "checkpoints", config.checkpoint)
    saver.save(state, 16, {})
    assert saver.close()
    return folder, state, metrics


def test_it_builds_and_runs_one_shrunk_epoch(trained):
    _, state, metrics = trained
    assert int(state.iterations) == 2
    assert np.isfinite(metrics["loss/policy"]) and np.isfinite(metrics["loss/value"])


@pytest.mark.slow
@pytest.mark.parametrize("trained", PLAYED, ids=named, indirect=True)
def test_the_door_plays_it(trained, request, capsys):
    """Every other one of them samples: what differs is the policy's, and each way has to be compiled."""
    folder, *_ = trained
    is_sampled = request.node.callspec.indices["trained"] % 2 == 1
    assert play.main([str(folder), "--json", "--episodes=2", *(["--sampled"] if is_sampled else [])]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["env_steps"] == 16 and told["episodes"] == 2 and told["deterministic"] != is_sampled
    returns, lengths = np.array(told["returns"]), np.array(told["lengths"])
    assert returns.shape == lengths.shape and len(returns) == 2
    assert np.isfinite(returns).all() and told["mean"] == pytest.approx(returns.mean())
    assert (lengths >= 1).all() and (lengths <= SHRUNK["eval.max_steps"]).all()


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
