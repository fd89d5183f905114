"""What every suite in jaxrl/envs promises; a new file there is found and tested by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.find import find, names
from jaxrl.types import ConfigError

HELPERS = {"wrappers"}
SUITES = [name for name in names("envs") if name not in HELPERS]
NUM_ENVS = 8


@pytest.fixture(scope="module", params=SUITES)
def suite(request):
    return find("envs", request.param)


@pytest.fixture(scope="module")
def played(suite):
    """An environment, its first timestep, and 40 random steps, [T, N]."""
    config = suite.default_config()
    if config.suite == "brax":
        config.name = "inverted_double_pendulum"
    config.episode_length = 12
    env = suite.make(config, NUM_ENVS)

    @jax.jit
    def play(key):
        reset_key, act_key = jax.random.split(key)
        state, first = env.reset(reset_key)
        shape = (40, NUM_ENVS, *env.spec.action.shape)
        actions = jax.random.uniform(act_key, shape, minval=env.spec.action.low, maxval=env.spec.action.high)
        return first, jax.lax.scan(env.step, state, actions)[1]

    return env, play, *play(jax.random.key(0))


def test_shapes_and_types_are_those_of_the_spec(played):
    env, _, first, steps = played
    for timestep, leading in ((first, (NUM_ENVS,)), (steps, (40, NUM_ENVS))):
        for obs in (timestep.obs, timestep.final_obs):
            expected = jax.tree.map(lambda s, lead=leading: ((*lead, *s.shape), s.dtype), env.spec.obs)
            assert jax.tree.map(lambda x: (x.shape, x.dtype), obs) == expected
        assert timestep.reward.shape == leading and timestep.reward.dtype == jnp.float32
        assert timestep.terminated.shape == leading and timestep.terminated.dtype == bool
        assert timestep.truncated.shape == leading and timestep.truncated.dtype == bool


def test_nothing_has_ended_at_the_reset(played):
    _, _, first, _ = played
    assert not first.terminated.any() and not first.truncated.any()


def test_an_episode_never_both_terminates_and_truncates_at_once(played):
    _, _, _, steps = played
    assert not (steps.terminated & steps.truncated).any()
    assert (steps.terminated | steps.truncated).any()


def test_no_environment_truncates_twice_within_the_declared_interval(played):
    env, _, _, steps = played
    for truncated in np.asarray(steps.truncated).T:
        gaps = np.diff(np.flatnonzero(truncated))
        assert (gaps >= env.spec.truncation_interval).all()


def test_obs_and_final_obs_differ_only_where_an_episode_ended(played):
    _, _, _, steps = played
    done = np.asarray(steps.terminated | steps.truncated)
    same = (np.asarray(steps.obs) == np.asarray(steps.final_obs)).reshape(*done.shape, -1).all(axis=-1)
    assert same[~done].all()
    assert not same[done].any()


def test_the_same_key_plays_the_same_and_another_does_not(played):
    _, play, _, steps = played
    np.testing.assert_array_equal(steps.obs, play(jax.random.key(0))[1].obs)
    assert (np.asarray(steps.obs) != np.asarray(play(jax.random.key(1))[1].obs)).any()


def test_all_numbers_are_finite(played):
    _, _, _, steps = played
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(steps))


def test_an_unknown_name_is_one_line_with_the_nearest(suite):
    config = suite.default_config()
    real = suite.names()[0]
    config.name = real + "x"
    with pytest.raises(ConfigError, match=f"did you mean '{real}'") as error:
        suite.make(config, NUM_ENVS)
    assert "\n" not in str(error.value)
