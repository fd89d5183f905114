"""PPO a step at a time: what its epoch does in one compiled call, taken apart for notebooks.

    learner = jaxrl.build(config)
    hand = by_hand.make(learner.env, learner.algorithm)
    state, rollout = hand.collect(state)
    agent, batch = hand.advantages(state.agent, rollout)
    for minibatch in hand.minibatches(batch, key):
        (loss, terms), gradient = jax.value_and_grad(hand.loss, has_aux=True)(agent.params, agent, minibatch)

Nothing is computed in another way here: these are the functions that `update` is made of. They are compiled, but each
alone, so a run of theirs is slower than its epochs.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.acting import rollout as rollouts
from jaxrl.acting import statistics
from jaxrl.algorithms.ppo import learning, terms
from jaxrl.algorithms.ppo.parts import Batch, Parts, State
from jaxrl.functional import minibatches
from jaxrl.types import Algorithm, Array, ConfigError, Environment, Key, PyTree, Rollout, TrainState


class ByHand(NamedTuple):
    """The steps of PPO; to a policy with memory, what `policy` and `value` see is the first of its episode."""

    policy: Callable  # (agent, obs [N, ...]) -> action [N, ...], the deterministic one
    value: Callable  # (agent, obs [N, ...]) -> V [N] or [N, H], in units of the return
    collect: Callable  # TrainState -> TrainState, Rollout: the next T steps of each environment
    advantages: Callable  # (agent, rollout) -> agent, Batch [T, N, ...]; by the values of the critic as it is now
    # (batch, key, passes=1) -> iterator of minibatches [S, B, ...], those of an update with that key
    minibatches: Callable
    loss: Callable  # (params, agent, minibatch) -> loss [], its terms by name
    finish: Callable  # (agent, rollout) -> agent, which has seen its observations


def make(env: Environment, algorithm: Algorithm) -> ByHand:
    """The steps of `algorithm` in `env`.

    Args:
        env: N environments on device.
        algorithm: of jaxrl.algorithms.ppo, such as `jaxrl.build(config).algorithm`.

    Raises:
        ConfigError: the environments live on the host, or have another policy phase than PPO's joint one.
    """
    parts: Parts = algorithm.update.args[0]
    if not env.spec.traceable:
        raise ConfigError("config.env.suite lives on the host: PPO by hand needs environments on the device.")
    if tuple(parts.phases) != ("joint",):
        raise ConfigError(
            f"config.ppo has the phases {', '.join(parts.phases)}; PPO by hand needs critic_epochs=0 and rnd_weight=0."
        )
    num_envs = env.spec.num_envs

    def policy(agent: State, obs: PyTree) -> PyTree:
        return algorithm.policy(agent, algorithm.carry(num_envs), obs, jnp.ones(num_envs, bool))[0]

    def value(agent: State, obs: PyTree) -> Array:
        first = jax.tree.map(lambda x: x[None], obs)
        return learning.evaluate(parts, agent, first, algorithm.carry(num_envs), jnp.ones((1, num_envs), bool))[0]

    def collect(state: TrainState) -> tuple[TrainState, Rollout]:
        key, _, act_keys = rollouts.keys_of(algorithm, state.key)
        nothing = statistics.nothing(num_envs)
        actor, _, rollout = rollouts.rollout(env, algorithm, state.agent, state.actor, nothing, act_keys)
        return state._replace(actor=actor, key=key, iterations=state.iterations + 1), rollout

    def advantages(agent: State, rollout: Rollout) -> tuple[State, Batch]:
        carry = jax.tree.map(lambda x: x[0], rollout.carry)
        seen = learning.evaluate(parts, agent, rollout.obs, carry, rollout.reset)
        agent, rollout, _ = learning.shape(parts, agent, rollout)
        return learning.prepare(parts, agent, rollout._replace(memo=rollout.memo._replace(value=seen)))[:2]

    def loss(params: PyTree, agent: State, minibatch: Batch) -> tuple[Array, dict[str, Array]]:
        last = parts.note(minibatch.memo.distribution)
        total, (_, _, metrics) = terms.joint_loss(parts, params, agent.hyper, learning.sure(parts, minibatch), last)
        return total, metrics

    def finish(agent: State, rollout: Rollout) -> State:
        moments = parts.follow_obs(agent.obs_moments, rollout.obs, learning.sure(parts, rollout).valid)
        return agent._replace(obs_moments=moments, updates=agent.updates + 1)

    cut, deal, take = _dealer(parts)

    def dealt(batch: Batch, key: Key, passes: int = 1) -> Iterator[Batch]:
        segments = cut(batch)
        for hands in deal(segments, key, passes):
            for hand in hands:
                yield take(segments, hand)

    pure = (jax.jit(step) for step in (policy, value, collect, advantages))
    return ByHand(*pure, dealt, jax.jit(loss), jax.jit(finish))


def _dealer(parts: Parts):
    """Cutting a batch into segments, dealing them out, and taking up a hand: what minibatches.sweep does."""

    def cut(batch):
        segments = minibatches.segment(batch._replace(carry=()), parts.segment_length, parts.groups)
        return segments._replace(carry=minibatches.segment(batch.carry, 1, parts.groups))

    def deal(segments, key, passes):
        number = segments.valid.shape[2]
        return minibatches.deal_passes(key, passes, parts.groups, number, parts.num_minibatches, parts.config.shuffle)

    return jax.jit(cut), jax.jit(deal, static_argnums=2), jax.jit(minibatches.take)
