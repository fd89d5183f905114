"""What learning makes of a recurrent policy's rollout is what acting did, wherever episodes end and segments begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import rollout, statistics
from jaxrl.functional import minibatches

pytestmark = [pytest.mark.slow, pytest.mark.learning]

NUM_ENVS, LENGTH = 8, 12


def acted(core, segment_length, **more):
    """(parts of PPO, agent, the second rollout): episodes of 5 steps, which segments know nothing of."""
    config = jaxrl.configure(
        {},
        {
            "env.suite": "probe",
            "env.name": "clock",
            "env.episode_length": 5,
            "network.hidden_sizes": (4,),
            "network.core": core,
            "network.core_size": 4,
            "network.policy_gain": 1.0,
            "ppo.num_envs": NUM_ENVS,
            "ppo.unroll_length": LENGTH,
            "ppo.segment_length": segment_length,
            "ppo.num_minibatches": 2,
            "eval.episodes": 0,
        }
        | more,
    )
    source = jaxrl.build(config)
    state = source.init(jnp.uint32(0), source.algorithm.hyper)
    one = lambda actor, key: rollout.rollout(  # noqa: E731
        source.env, source.algorithm, state.agent, actor, statistics.nothing(NUM_ENVS), jax.random.split(key, LENGTH)
    )
    one = jax.jit(one)
    actor, _, _ = one(state.actor, jax.random.key(0))
    return source.algorithm.update.args[0], state.agent, one(actor, jax.random.key(1))[2]


@pytest.mark.parametrize("core", ["lstm", "gru"])
@pytest.mark.parametrize("segment_length", [1, 2, 3, 4, 6, 12])
def test_first_look_of_learning_finds_the_log_probs_of_acting(core, segment_length):
    check(*acted(core, segment_length), segment_length)


@pytest.mark.parametrize("options", [{"network.shared": True}, {"network.core_keeps_carry": True}])
def test_it_does_so_with_one_core_and_with_a_carry_that_outlives_episodes(options):
    check(*acted("gru", 4, **options), 4)


def check(parts, agent, seen, segment_length):
    pieces = LENGTH // segment_length
    # Episodes begin at steps 0, 5, 10, 15, 20, ... of which the second rollout has 12 to 23.
    np.testing.assert_array_equal(np.flatnonzero(seen.reset[:, 0]), [3, 8])
    obs = parts.normalize_obs(agent.obs_moments, seen.obs)
    segment = lambda x, length: minibatches.segment(x, length, 1)  # noqa: E731
    obs, reset, memo = segment((obs, seen.reset, seen.memo), segment_length)
    carry = segment(jax.tree.map(lambda x: x[:: x.shape[0] // pieces], seen.carry), 1)
    one_group = lambda tree: jax.tree.map(lambda x: x[:, 0], tree)  # noqa: E731
    distribution, values, _ = parts.network.apply(
        agent.params, jax.tree.map(lambda x: x[0], one_group(carry)), one_group(obs), one_group(reset)
    )
    memo = one_group(memo)
    np.testing.assert_allclose(distribution.log_prob(memo.sample), memo.log_prob, rtol=1e-5, atol=1e-5)
    value = parts.denormalize_value(agent.value_moments, values.expectation())
    np.testing.assert_allclose(value, memo.value, rtol=1e-5, atol=1e-5)
