"""Observation moments of random steps: known for a probe, and never changed by training."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl

NUM_ENVS = 64


def learner(**overrides):
    base = {"env.suite": "probe", "env.name": "fuse", "env.episode_length": 8, "network.hidden_sizes": (8,)}
    base |= {"ppo.num_envs": NUM_ENVS, "ppo.unroll_length": 4, "ppo.num_minibatches": 1}
    return jaxrl.build(jaxrl.configure({}, base | overrides))


def begin(learner):
    return jax.jit(learner.init)(jnp.uint32(0), learner.algorithm.hyper)


def test_moments_are_those_of_random_steps_and_stay():
    # The fuse burns out in its third step, so the time shown goes 1, 2, 0, 1, 2, 0; beside it a number from U(-1, 1).
    one = learner(**{"ppo.random_steps": 96 * NUM_ENVS - 5})  # rounded up
    state = begin(one)
    moments = state.agent.obs_moments
    assert moments.count[0] == 96 * NUM_ENVS
    np.testing.assert_allclose(moments.mean[0], [1.0, 0.0], atol=0.05)
    np.testing.assert_allclose(moments.variance[0], [2 / 3, 1 / 3], atol=0.03)
    np.testing.assert_allclose([moments.mean[0][0], moments.variance[0][0]], [1.0, 2 / 3], atol=1e-5)
    after, _ = jax.jit(one.epoch)(state, 3)
    jax.tree.map(np.testing.assert_array_equal, after.agent.obs_moments, moments)
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (after.agent.params, state.agent.params)), strict=True)
    )


def test_without_them_moments_begin_with_nothing_and_run():
    one = learner()
    state = begin(one)
    assert state.agent.obs_moments.count[0] == 0
    after, _ = jax.jit(one.epoch)(state, 3)
    assert after.agent.obs_moments.count[0] == 3 * 4 * NUM_ENVS


def test_looking_around_changes_nothing_else():
    looked, plain = begin(learner(**{"ppo.random_steps": NUM_ENVS})), begin(learner())
    agent = looked.agent._replace(obs_moments=plain.agent.obs_moments)
    jax.tree.map(np.testing.assert_array_equal, agent, plain.agent)
    jax.tree.map(np.testing.assert_array_equal, *(_plain(state) for state in (looked, plain)))


def _plain(state):
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        (state.actor, state.key),
    )
