"""PPO by hand is PPO: its steps, one after the other, are what an update is.

Letters in shapes: T steps, N environments.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl.algorithms.ppo import by_hand

pytestmark = [pytest.mark.slow, pytest.mark.learning]

T, N = 8, 8
OVERRIDES = {
    "env.suite": "probe",
    "env.name": "clock",
    "network.hidden_sizes": (8,),
    "ppo.num_envs": N,
    "ppo.unroll_length": T,
    "ppo.num_minibatches": 4,
    "ppo.segment_length": 2,
    "ppo.update_epochs": 3,
}


def begin(**more):
    """(learner, its steps, a fresh state)."""
    learner = jaxrl.build(jaxrl.configure({}, OVERRIDES | more))
    state = jax.jit(learner.init)(jnp.uint32(0), learner.algorithm.hyper)
    return learner, by_hand.make(learner.env, learner.algorithm), state


def passes(hand, agent, rollout, is_fresh=False):
    """The agent after three passes with the keys of an update; is_fresh: each estimates the advantages anew."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(float(agent.hyper.learning_rate)))

    @jax.jit
    def step(params, moments, minibatch):
        gradient, _ = jax.grad(hand.loss, has_aux=True)(params, agent, minibatch)
        change, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, change), moments

    seen, batch = hand.advantages(agent, rollout)
    params, moments = agent.params, optimizer.init(agent.params)
    for one_pass in range(3):
        if is_fresh:
            _, batch = hand.advantages(agent._replace(params=params), rollout)
        for minibatch in list(hand.minibatches(batch, jax.random.key(3), passes=3))[4 * one_pass : 4 * (one_pass + 1)]:
            params, moments = step(params, moments, minibatch)
    return hand.finish(seen._replace(params=params), rollout)


def assert_same(one, other, names):
    for name in names:
        leaves = (jax.tree.leaves(getattr(each, name)) for each in (one, other))
        for x, y in zip(*leaves, strict=True):
            np.testing.assert_allclose(x, y, atol=2e-6)


def greatest_difference(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: np.max(np.abs(x - y)), one, other)))


@pytest.mark.parametrize(
    "more", [{}, {"network.core": "gru", "network.core_size": 4}, {"ppo.kl_reference": "previous"}]
)
def test_passes_by_hand_are_an_update(more):
    learner, hand, state = begin(**more)
    state, rollout = hand.collect(state)
    whole, _ = jax.jit(learner.algorithm.update)(state.agent, rollout, jax.random.key(3))
    ours = passes(hand, state.agent, rollout)
    assert_same(ours, whole, ("params", "obs_moments", "value_moments", "updates"))
    assert greatest_difference(whole.params, state.agent.params) > 1e-3


def test_an_update_can_estimate_advantages_anew_in_each_pass():
    # Without normalised values: by hand each estimate would move their moments.
    learner, hand, state = begin(
        **{"ppo.normalize_value": False, "ppo.recompute_advantage": True, "ppo.learning_rate": 1e-2}
    )
    state, rollout = hand.collect(state)
    whole, _ = jax.jit(learner.algorithm.update)(state.agent, rollout, jax.random.key(3))
    ours = passes(hand, state.agent, rollout, is_fresh=True)
    apart = greatest_difference(whole.params, passes(hand, state.agent, rollout).params)
    assert greatest_difference(whole.params, ours.params) < 1e-5 < 1e-3 < apart


def test_batches_follow_one_another():
    _, hand, state = begin()
    state, one = hand.collect(state)
    state, two = hand.collect(state)
    np.testing.assert_array_equal(one.last_obs, two.obs[0])
    assert int(state.iterations) == 2 and not np.array_equal(one.memo.sample, two.memo.sample)


def test_advantages_follow_the_critic():
    _, hand, state = begin()
    state, rollout = hand.collect(state)
    head = state.agent.params["value_head"]["Dense_0"]
    surer = state.agent._replace(
        params=state.agent.params | {"value_head": {"Dense_0": {**head, "bias": head["bias"] + 2.0}}}
    )
    np.testing.assert_allclose(
        hand.value(surer, rollout.last_obs), hand.value(state.agent, rollout.last_obs) + 2.0, atol=1e-5
    )
    old, new = (hand.advantages(agent, rollout)[0].value_moments for agent in (state.agent, surer))
    assert float(new.mean[0]) > float(old.mean[0]) + 1.0  # targets that hold what later states are worth


def test_a_critic_that_learns_alone_is_refused_in_one_line():
    with pytest.raises(jaxrl.types.ConfigError, match="config.ppo has the phases critic, policy; .* critic_epochs=0"):
        begin(**{"ppo.critic_epochs": 1})
