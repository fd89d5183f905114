"""Rollouts: what is kept of each step, and what an episode is worth after its clock stopped, wherever that falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.acting import rollout, statistics
from jaxrl.types import Algorithm, Box, Environment, Spec, Timestep


def scripted(ends, kinds, interval):
    """One environment that ends its episodes at the given steps; its observation is the time since the beginning.

    final_obs is the negative of the time, so that it cannot be taken for any other observation.
    """
    script = jnp.array([[step in ends and kinds[ends.index(step)] == kind for step in range(64)] for kind in "tc"])
    nothing = jnp.zeros(1, bool)

    def show(time, reward, terminated, truncated):
        obs = jnp.full((1, 1), time, jnp.float32)
        return Timestep(obs, jnp.full(1, reward, jnp.float32), terminated, truncated, -obs, {}, jnp.ones(1, bool))

    def step(time, action):
        return time + 1, show(time + 1, time, script[0, time][None], script[1, time][None])

    spec = Spec(1, jax.ShapeDtypeStruct((1,), jnp.float32), Box((1,)), interval)
    return Environment(lambda key: (jnp.int32(0), show(0, 0.0, nothing, nothing)), step, spec)


def observer(unroll_length, segment_length):
    """An algorithm whose carry counts the steps since a reset, and which remembers what it saw."""

    def act(agent, carry, obs, reset, key):
        carry = jnp.where(reset, 0, carry) + 1
        return jnp.zeros((1, 1)), carry, {"seen": obs, "carry": carry}

    carry = lambda num_envs: jnp.zeros(num_envs, jnp.int32)  # noqa: E731
    return Algorithm(None, act, None, None, carry, None, unroll_length, segment_length)


def keys(seed, length):
    return jax.random.split(jax.random.key(seed), length)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_in_a_row_draw_what_has_nothing_in_common(impl):
    following, learn, steps = rollout.keys_of(observer(30, 30), jax.random.key(3, impl=impl))
    after, *_ = rollout.keys_of(observer(30, 30), following)
    draw = jax.jit(lambda key: jax.random.normal(key, (10_000,)))
    noise = np.stack([draw(after), draw(learn), *(draw(key) for key in steps)])
    # 496 correlations of 10,000 numbers, each within 5 standard errors; means and variances likewise.
    assert np.all(np.abs(np.corrcoef(noise) - np.eye(32)) < 5 / np.sqrt(10_000))
    assert np.all(np.abs(noise.mean(1)) < 5 / np.sqrt(10_000))
    assert np.all(np.abs(noise.var(1) - 1) < 5 * np.sqrt(2 / 10_000))


def play(env, unroll_length, segment_length=None):
    algorithm = observer(unroll_length, segment_length or unroll_length)
    actor = rollout.start(env, algorithm, jax.random.key(0))
    return rollout.rollout(env, algorithm, None, actor, statistics.nothing(1), keys(1, unroll_length))


@pytest.mark.parametrize("position", range(8))
def test_truncation_anywhere_keeps_its_own_final_observation(position):
    _, _, seen = play(scripted([position], "c", interval=8), 8)
    assert seen.final_obs.shape == (1, 1, 1)
    assert seen.final_obs[0, 0, 0] == -(position + 1)
    np.testing.assert_array_equal(seen.truncated[:, 0], np.arange(8) == position)


@pytest.mark.parametrize("position", range(8))
def test_termination_keeps_no_final_observation(position):
    _, _, seen = play(scripted([position], "t", interval=8), 8)
    assert seen.final_obs[0, 0, 0] == 0
    np.testing.assert_array_equal(seen.terminated[:, 0], np.arange(8) == position)


@pytest.mark.parametrize("interval, chunks", [(1, 8), (2, 4), (3, 4), (5, 2), (8, 1), (100, 1)])
def test_every_truncation_has_a_slot_of_its_own(interval, chunks):
    ends = list(range(interval - 1, 8, interval))
    _, _, seen = play(scripted(ends, "c" * len(ends), interval), 8)
    assert seen.final_obs.shape[0] == chunks
    slots = np.repeat(np.asarray(seen.final_obs)[:, 0, 0], 8 // chunks)
    np.testing.assert_array_equal(slots[ends], [-(end + 1) for end in ends])


@pytest.mark.parametrize("segment_length, interval", [(1, 8), (2, 8), (4, 8), (8, 8), (8, 4), (4, 3)])
def test_every_segment_keeps_the_carry_it_began_with(segment_length, interval):
    _, _, seen = play(scripted([2, 6], "tc", interval), 8, segment_length)
    chunks = seen.carry.shape[0]
    assert segment_length % (8 // chunks) == 0
    # Before steps 0..7: none yet, 1, 2, 3 (reset follows), then 1, 2, 3, 4 of the second episode.
    np.testing.assert_array_equal(seen.carry[:, 0], np.array([0, 1, 2, 3, 1, 2, 3, 4])[:: 8 // chunks])


def test_recurrent_state_at_truncation_is_that_after_the_last_step():
    _, _, seen = play(scripted([2, 6], "tc", interval=8), 8)
    assert seen.final_carry[0, 0] == 4  # steps 3, 4, 5 and 6 of the second episode


def test_reset_marks_the_first_observation_of_each_episode():
    actor, _, seen = play(scripted([2, 7], "tc", interval=8), 8)
    np.testing.assert_array_equal(np.flatnonzero(seen.reset[:, 0]), [0, 3])
    assert seen.last_reset[0] and actor.reset[0]


def test_the_next_rollout_begins_where_the_last_one_ended():
    env = scripted([5], "t", interval=64)
    algorithm = observer(4, 4)
    actor, finished, first = play(env, 4)
    _, _, second = rollout.rollout(env, algorithm, None, actor, finished, keys(2, 4))
    assert first.last_obs[0, 0] == second.memo["seen"][0, 0, 0] == 4
    np.testing.assert_array_equal(second.reward[:, 0], [4, 5, 6, 7])
    assert second.carry[0, 0] == 4


def test_statistics_count_episodes_across_rollouts():
    env = scripted([5, 7], "tc", interval=64)
    actor, finished, _ = play(env, 4)
    _, finished, _ = rollout.rollout(env, observer(4, 4), None, actor, finished, keys(2, 4))
    summary = statistics.summarize(finished)
    assert summary["rollout/episodes"] == 2
    assert summary["rollout/episode_return"] == ((0 + 1 + 2 + 3 + 4 + 5) + (6 + 7)) / 2
    assert summary["rollout/episode_length"] == (6 + 2) / 2
    assert summary["rollout/episode_length_max"] == 6
    assert summary["rollout/reward"] == np.mean(range(8))
