"""Craftax under our clock; checked against Craftax's own reset and step, with its own clock.

Letters in shapes: T steps, N environments.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import craftax as suite
from jaxrl.envs.spaces import example
from jaxrl.types import ConfigError, Discrete

NUM_ENVS = 4
NUM_STEPS = 130
CLASSIC = "Craftax-Classic-Symbolic-v1"


def make(name=CLASSIC, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, NUM_ENVS, restarts=False)


@pytest.fixture(scope="module")
def played():
    """130 random steps of Classic, [T, N], ours under a clock of 130, and the actions."""
    actions = np.random.default_rng(0).integers(0, 17, (NUM_STEPS, NUM_ENVS), np.int32)
    env = make(episode_length=NUM_STEPS)

    @jax.jit
    def run(key):
        state, first = env.reset(key)
        return first, jax.lax.scan(env.step, state, actions)[1]

    return *jax.tree.map(np.asarray, run(jax.random.key(0))), play_theirs(actions)


def play_theirs(actions):
    """{limit: Craftax's first observation, then obs, reward, done and achievements [T, N]}, from the same keys."""
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name(CLASSIC, auto_reset=False)
    _, begin_key = jax.random.split(jax.random.key(0))
    both = jax.vmap(jax.random.split)(jax.random.split(begin_key, NUM_ENVS))
    reset_keys, episode_keys = jnp.unstack(jax.random.key_data(both), axis=1)

    @jax.jit
    def run(params):
        def step(state, t_action):
            t, action = t_action
            keys = jax.vmap(jax.random.fold_in, (0, None))(episode_keys, t)
            obs, state, reward, done, _ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
            return state, (obs, reward, done, state.achievements)

        first, state = jax.vmap(env.reset, (0, None))(reset_keys, params)
        return first, *jax.lax.scan(step, state, (jnp.arange(NUM_STEPS), actions))[1]

    with warnings.catch_warnings(action="ignore"):
        return {
            limit: jax.tree.map(np.asarray, run(env.default_params.replace(max_timesteps=limit)))
            for limit in (NUM_STEPS, env.default_params.max_timesteps)
        }


def test_without_craftax_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "craftax", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[craftax\]'[^\n]*$"):
        make()


@pytest.mark.craftax
def test_a_life_goes_as_craftaxs_own(played):
    first, steps, theirs = played
    their_first, obs, reward, done, _ = theirs[10_000]
    np.testing.assert_allclose(first.obs, their_first, rtol=1e-5)
    np.testing.assert_allclose(steps.final_obs, obs, rtol=1e-5)
    np.testing.assert_allclose(steps.reward, reward, rtol=1e-5)
    np.testing.assert_array_equal(steps.terminated, done)
    assert reward.any()


@pytest.mark.craftax
def test_who_dies_terminates_and_who_lives_on_is_truncated(played):
    _, steps, theirs = played
    died, timed = theirs[10_000][3], theirs[NUM_STEPS][3]
    dies = died.any(axis=0)
    assert dies.any() and not dies.all()
    np.testing.assert_array_equal(steps.terminated.any(axis=0), dies)
    # Craftax takes the clock for the end of the task.
    assert timed[-1].all()
    expected = np.zeros((NUM_STEPS, NUM_ENVS), bool)
    expected[-1] = ~dies
    np.testing.assert_array_equal(steps.truncated, expected)


@pytest.mark.craftax
def test_each_achievement_is_counted_once(played):
    _, steps, theirs = played
    achievements = theirs[10_000][4]  # [T, N, 22]
    assert achievements[-1].any() and len(steps.metrics) == 22
    from craftax.craftax_classic.constants import Achievement

    for one in Achievement:
        counted = np.cumsum(steps.metrics[f"achievement/{one.name.lower()}"], axis=0)
        np.testing.assert_array_equal(counted, achievements[..., one.value])


@pytest.mark.craftax
def test_the_limits_are_craftaxs_and_nothing_is_printed(capsys):
    env = make()
    assert (env.spec.truncation_interval, env.spec.obs.shape, env.spec.action) == (10_000, (1345,), Discrete(17))
    env = make("Craftax-Symbolic-v1")
    assert (env.spec.truncation_interval, env.spec.obs.shape, env.spec.action) == (100_000, (8268,), Discrete(43))
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.craftax
def test_every_environment_keeps_the_types_of_its_state_and_observation(keys_unchecked):
    for name in suite.names():
        env = make(name)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, NUM_ENVS))
        assert again == state and timestep == first, name
        assert first.obs.shape == (NUM_ENVS, *env.spec.obs.shape) and first.obs.dtype == jnp.float32
