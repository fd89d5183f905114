"""Environments on the host: the same learning as on the device, step by step in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.acting import epoch, hosted
from jaxrl.algorithms.ppo import agent
from jaxrl.host import evaluation
from jaxrl.types import Environment

pytestmark = pytest.mark.slow


def config(**overrides):
    base = {
        "env.suite": "probe",
        "network.hidden_sizes": (16,),
        "ppo.num_envs": 16,
        "ppo.unroll_length": 8,
        "ppo.num_minibatches": 2,
        "ppo.learning_rate": 1e-2,
        "ppo.gamma": 0.9,
    }
    return jaxrl.configure({}, base | overrides)


def on_host(env):
    """`env` as one that keeps its state to itself and returns numpy arrays."""
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    own = {}

    def show(state, timestep):
        own["state"] = state
        return (), jax.tree.map(np.array, timestep)

    def move(state, action):
        assert state == ()
        return show(*step(own["state"], action))

    return Environment(lambda key: show(*reset(key)), move, env.spec._replace(traceable=False))


CASES = {
    "clock": {"env.name": "clock", "env.episode_length": 3},
    "memory": {"env.name": "recall", "network.core": "gru", "network.core_size": 8, "ppo.segment_length": 4},
    "masks": {"env.name": "masked_arms"},
    "heads": {"env.name": "two_heads"},
    "random steps": {"env.name": "fuse", "ppo.random_steps": 40},
}


@pytest.mark.parametrize("case", CASES)
def test_learning_is_that_of_the_epoch_on_the_device(case):
    setting = config(**CASES[case])
    env = envs.make(setting.env, 16)
    algorithm = agent.make(setting, env.spec)
    init, run = epoch.make(env, algorithm)
    expected, told = jax.jit(run)(jax.jit(init)(jax.random.key(0), algorithm.hyper), jnp.int32(3))
    init, run = hosted.make(on_host(env), algorithm)
    state, metrics = run(init(jax.random.key(0), algorithm.hyper), jnp.int32(2))
    state, metrics_of_last = run(state, jnp.int32(1))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, state.agent, expected.agent)
    jax.tree.map(close, state.actor._replace(env_state=()), expected.actor._replace(env_state=()))
    assert state.iterations == expected.iterations
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(expected.key))
    assert metrics.keys() == metrics_of_last.keys() == told.keys()
    for name in ("rollout/episodes", "loss/value", "update/kl"):
        how = np.sum if name == "rollout/episodes" else lambda parts: (2 * parts[0] + parts[1]) / 3
        close(how([metrics[name], metrics_of_last[name]]), told[name])


def test_a_state_that_is_not_the_one_under_way_begins_new_episodes():
    setting = config(**{"env.name": "clock", "env.episode_length": 100})
    env = on_host(envs.make(setting.env, 16))
    algorithm = agent.make(setting, env.spec)
    init, run = hosted.make(env, algorithm)
    first = init(jax.random.key(0), algorithm.hyper)
    saved = jax.tree.map(jnp.copy, run(first, jnp.int32(1))[0])
    again, _ = run(saved, jnp.int32(1))
    np.testing.assert_array_equal(again.actor.running.length, 8)  # not 16
    on, _ = run(again, jnp.int32(1))
    np.testing.assert_array_equal(on.actor.running.length, 16)


def test_an_evaluation_is_that_of_the_loop_on_the_device():
    setting = config(**{"env.name": "fuse", "eval.episodes": 8})
    env = envs.make(setting.env, 8, restarts=False)
    algorithm = agent.make(setting, env.spec)
    state = algorithm.init(jax.random.key(0), algorithm.hyper)
    results = [evaluation.make(each, algorithm, setting.eval)(state, jax.random.key(1)) for each in (env, on_host(env))]
    assert results[0] == results[1]
    assert results[0]["eval/episode_return"] == 3


def test_a_run_trains_logs_evaluates_saves_and_goes_on(tmp_path, monkeypatch):
    made = envs.make
    monkeypatch.setattr(envs, "make", lambda *arguments, **options: on_host(made(*arguments, **options)))
    options = {"env.name": "target", "total_env_steps": 16 * 8 * 20, "checkpoint.interval": 16 * 8 * 5}
    experiment = {
        "ppo": {"num_envs": 16, "unroll_length": 8},
        "network": {"hidden_sizes": (16,)},
        "env": {"suite": "probe"},
    }
    stopped = jaxrl.train(experiment, tmp_path, options | {"stop.wall_clock_limit_s": 0.0})
    assert 0 < stopped.env_steps < 16 * 8 * 20
    run = jaxrl.train(experiment, tmp_path, options)
    assert run.env_steps == 16 * 8 * 20
    steps = [row["env_steps"] for row in run.history]
    assert steps == sorted(set(steps)) and steps[-1] == 16 * 8 * 20
    assert run.history[-1]["eval/episodes"] == 128
