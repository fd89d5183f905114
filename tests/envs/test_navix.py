"""Navix's grid worlds under our clock; checked against Navix's own reset and step, with its own clock.

Letters in shapes: T steps, N environments.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import navix as suite
from jaxrl.envs.spaces import example
from jaxrl.types import ConfigError, Discrete

NUM_ENVS = 4
LEFT, RIGHT, AHEAD = 0, 1, 2
TO_THE_GOAL = [AHEAD] * 5 + [RIGHT] + [AHEAD] * 5  # of Empty-8x8, from one corner to the other


def make(name, restarts=False, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, NUM_ENVS, restarts)


def play(env, actions, seed=0):
    """The first timestep and those after it, [T, N], under given actions [T, N]."""

    @jax.jit
    def run(key):
        state, first = env.reset(key)
        return first, jax.lax.scan(env.step, state, jnp.asarray(actions, jnp.int32))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(seed)))


def play_theirs(name, actions, seed=0, **options):
    """Navix's own observations [T, N, ...], rewards and kinds of steps [T, N], from the same keys."""
    import navix

    _, begin_key = jax.random.split(jax.random.key(seed))
    keys = jax.random.key_data(jax.random.split(begin_key, NUM_ENVS))

    @jax.jit
    def run(keys):
        def step(timestep, action):
            timestep = jax.vmap(env.step)(timestep, action)
            return timestep, (timestep.observation, timestep.reward, timestep.step_type)

        first = jax.vmap(env.reset)(keys)
        return first.observation, *jax.lax.scan(step, first, jnp.asarray(actions, jnp.int32))[1]

    with warnings.catch_warnings(action="ignore"):
        env = navix.make(name, **options)
        return jax.tree.map(np.asarray, run(keys))


def everyone(actions):
    """[T] → [T, N]."""
    return np.tile(np.int32(actions)[:, None], (1, NUM_ENVS))


def symbols(shown):
    """Navix's symbols of what the policy is shown: [..., 21] → [..., 3]."""
    parts = np.split(shown, [11, 17], axis=-1)
    assert all((part.sum(axis=-1) == 1).all() for part in parts)
    return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)


def test_without_navix_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "navix", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[navix\]'[^\n]*$"):
        make("Navix-Empty-8x8-v0")


@pytest.mark.navix
@pytest.mark.parametrize(
    "name", ["Navix-Empty-Random-5x5-v0", "Navix-DoorKey-5x5-v0", "Navix-Dynamic-Obstacles-5x5-v0"]
)
def test_an_episode_goes_as_navixs_own(name):
    actions = np.random.default_rng(0).integers(0, 7, (120, NUM_ENVS))
    first, steps = play(make(name), actions)
    their_first, obs, reward, kind = play_theirs(name, actions)
    assert (kind > 0).any(axis=0).all()  # every episode ends, the latest by the clock, after 100 steps
    np.testing.assert_array_equal(symbols(first.obs), their_first)
    for i, end in enumerate(np.argmax(kind > 0, axis=0) + 1):
        np.testing.assert_array_equal(symbols(steps.final_obs[:end, i]), obs[:end, i])
        np.testing.assert_array_equal(steps.reward[:end, i], reward[:end, i])
        np.testing.assert_array_equal(steps.truncated[:end, i], kind[:end, i] == 1)
        np.testing.assert_array_equal(steps.terminated[:end, i], kind[:end, i] == 2)


@pytest.mark.navix
def test_the_goal_terminates_pays_one_and_a_new_episode_begins():
    env = make("Navix-Empty-8x8-v0", restarts=True)
    assert (env.spec.obs.shape, env.spec.action) == ((8, 8, 21), Discrete(7))
    first, steps = play(env, everyone(TO_THE_GOAL))
    assert steps.terminated[10].all() and not steps.terminated[:10].any() and not steps.truncated.any()
    np.testing.assert_array_equal(steps.reward.sum(axis=0), 1)
    np.testing.assert_array_equal(np.argwhere(steps.final_obs[10, 0, ..., 10]), [[6, 6]])  # the player, on the goal
    np.testing.assert_array_equal(steps.obs[10], first.obs)


@pytest.mark.navix
def test_the_clock_truncates_and_the_goal_at_the_last_moment_terminates():
    for limit in (10, 11):
        _, steps = play(make("Navix-Empty-8x8-v0", episode_length=limit), everyone(TO_THE_GOAL))
        in_time = limit == 11
        assert (steps.terminated[limit - 1] == in_time).all() and (steps.truncated[limit - 1] != in_time).all()
        assert not (steps.terminated | steps.truncated)[: limit - 1].any()
        assert (steps.reward[limit - 1] == in_time).all()


@pytest.mark.navix
def test_without_a_limit_of_the_users_own_it_is_navixs():
    _, steps = play(make("Navix-Empty-8x8-v0"), everyone([LEFT] * 101))
    _, _, _, kind = play_theirs("Navix-Empty-8x8-v0", everyone([LEFT] * 101))
    np.testing.assert_array_equal(steps.truncated, kind == 1)
    assert np.flatnonzero(steps.truncated[:, 0]) == 99 and not steps.terminated.any()


@pytest.mark.navix
def test_the_door_to_be_found_is_shown():
    env = make("Navix-GoToDoor-5x5-v0")
    first, steps = play(env, everyone([LEFT, RIGHT]))
    doors = symbols(first.obs["grid"])  # [N, H, W, 3]
    colour = first.obs["mission"].argmax(axis=-1)  # [N]
    assert (first.obs["mission"].sum(axis=-1) == 1).all()
    for i in range(NUM_ENVS):
        assert colour[i] in doors[i][doors[i][..., 0] == 4][:, 1]
    np.testing.assert_array_equal(steps.final_obs["mission"], np.tile(first.obs["mission"], (2, 1, 1)))


@pytest.mark.navix
@pytest.mark.parametrize("observation", ["rgb", "categorical_first_person"])
def test_other_observations_are_navixs_too(observation):
    actions = np.random.default_rng(3).integers(0, 7, (9, NUM_ENVS))
    _, steps = play(make("Navix-DoorKey-5x5-v0", observation=observation), actions)
    import navix  # after ours, which silences what it warns of as it loads

    theirs = getattr(navix.observations, observation)
    _, obs, _, kind = play_theirs("Navix-DoorKey-5x5-v0", actions, observation_fn=theirs)
    assert not (kind > 0).any()
    if observation == "rgb":
        np.testing.assert_array_equal(steps.final_obs, obs)
    else:
        ones = steps.final_obs.sum(axis=-1) == 1
        np.testing.assert_array_equal(ones, obs != 100)  # which is what lies beyond the grid
        np.testing.assert_array_equal(steps.final_obs.argmax(axis=-1)[ones] - 1, obs[ones])
    assert steps.final_obs.dtype == (np.uint8 if observation == "rgb" else np.float32)


@pytest.mark.navix
def test_an_observation_that_does_not_exist_is_one_line_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^config.env.observation='symbol' does not exist; did you mean 'symbolic'"):
        make("Navix-Empty-8x8-v0", observation="symbol")


@pytest.mark.slow
@pytest.mark.navix
def test_every_environment_keeps_the_types_of_its_state_and_observation(keys_unchecked):
    assert len(suite.names()) >= 41
    for name in suite.names():
        env = make(name)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, NUM_ENVS))
        # By leaf, for Navix's own containers compare positions.
        assert jax.tree.leaves(again) == jax.tree.leaves(state) and timestep == first, name
