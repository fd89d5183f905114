"""What PPO makes of a rollout: advantages and value targets, then passes of minibatches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxrl.algorithms.ppo.parts import Batch, Parts, State
from jaxrl.functional import masked, minibatches, normalize, returns
from jaxrl.types import Array, Key, PyTree, Rollout


def update(parts: Parts, state: State, rollout: Rollout, key: Key) -> tuple[State, dict[str, Array]]:
    """Learns from one rollout: each phase makes its passes of `num_minibatches` steps of Adam each."""
    state, batch, metrics = prepare(parts, state, rollout)
    segments = minibatches.segment(batch._replace(carry=()), parts.segment_length, parts.groups)
    segments = segments._replace(carry=minibatches.segment(batch.carry, 1, parts.groups))
    for name, phase_key in zip(parts.phases, jax.random.split(key, len(parts.phases)), strict=True):
        state, learned = learn(parts, name, state, segments, phase_key)
        metrics |= learned
    state = state._replace(
        # Only now: the policy that learns sees observations as the one that acted saw them.
        obs_moments=parts.follow_obs(state.obs_moments, rollout.obs, rollout.valid),
        updates=state.updates + 1,
    )
    return state, metrics


def learn(parts: Parts, name: str, state: State, segments: Batch, key: Key) -> tuple[State, dict[str, Array]]:
    """One phase: its passes over the segments; metrics are means over the last pass."""
    phase = parts.phases[name]
    progress = state.updates / parts.num_updates
    hyper = state.hyper._replace(
        clip=state.hyper.clip * jnp.maximum(parts.decay_clip(progress), 1e-3),
        entropy_cost=state.hyper.entropy_cost * parts.decay_entropy(progress),
    )
    decay = parts.decay(progress / parts.config.learning_rate_share)
    mine, rest = split(state.params, phase.owns)

    def loss_of_mine(mine, minibatch, last):
        return phase.loss(parts, {**rest, **mine}, hyper, minibatch, last)

    def step(learner, minibatch, last):
        mine, optimizer, learning_rate = learner
        (_, (kl, note, metrics)), gradient = jax.value_and_grad(loss_of_mine, has_aux=True)(mine, minibatch, last)
        norm = optax.tree.norm(gradient)
        limit = jnp.where(hyper.max_gradient_norm > 0, hyper.max_gradient_norm, jnp.inf)
        gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, limit / norm), gradient)
        change, optimizer = parts.optimizer.update(gradient, optimizer, mine)
        # The rate multiplies out here, so that nothing has to reach into the optimiser's state.
        mine = jax.tree.map(lambda p, c: p - learning_rate * decay * c, mine, change)
        metrics |= {phase.metric + "gradient_norm": norm, phase.metric + "learning_rate": learning_rate * decay}
        return (mine, optimizer, phase.adapt(learning_rate, kl, hyper.target_kl)), note, (kl, metrics)

    def one_pass(state, key):
        learner, notes = state
        learner, notes, (kl, metrics) = minibatches.sweep(
            step, learner, segments, notes, key, parts.num_minibatches, parts.config.shuffle
        )
        mine, optimizer, learning_rate = learner
        return ((mine, optimizer, phase.adapt_pass(learning_rate, jnp.mean(kl), hyper.target_kl)), notes), metrics

    learner = (mine, state.optimizer[name], getattr(hyper, phase.rate))
    notes = phase.note(segments.memo.distribution)
    (learner, _), metrics = jax.lax.scan(one_pass, (learner, notes), jax.random.split(key, phase.epochs))
    mine, optimizer, learning_rate = learner
    state = state._replace(
        params={branch: {**rest, **mine}[branch] for branch in state.params},
        optimizer=state.optimizer | {name: optimizer},
        hyper=state.hyper._replace(**{phase.rate: learning_rate}),
    )
    return state, jax.tree.map(lambda x: jnp.mean(x[-1]), metrics)


def prepare(parts: Parts, state: State, rollout: Rollout) -> tuple[State, Batch, dict[str, Array]]:
    """Advantages and value targets of a rollout: the state whose normalisers have seen them, the batch, metrics."""
    hyper, memo, valid = state.hyper, rollout.memo, rollout.valid

    def value_of(obs, carry, reset):
        obs = jax.tree.map(lambda x: x[None], parts.normalize_obs(state.obs_moments, obs))
        value = parts.network.value(state.params, carry, obs, reset[None]).expectation()[0]
        return parts.denormalize_value(state.value_moments, value)

    last_value = value_of(rollout.last_obs, rollout.last_carry, rollout.last_reset)
    no_reset = jnp.zeros_like(rollout.last_reset)
    final_value = jax.vmap(lambda obs, carry: value_of(obs, carry, no_reset))(rollout.final_obs, rollout.final_carry)
    final_value = parts.bootstrap(memo.value, final_value)
    next_value = returns.next_values(memo.value, last_value, final_value, rollout.truncated)
    done = rollout.terminated | rollout.truncated
    state, bonus, novelty_metrics = parts.bonus.reward(parts, state, rollout)
    reward = parts.shape_reward(rollout.reward)
    reward = reward + masked.across(jnp.broadcast_to(bonus, done.shape), reward)
    advantage = returns.gae(
        reward, memo.value, next_value, rollout.terminated, done, gamma=hyper.gamma, lambda_=hyper.lambda_
    )
    target = advantage + memo.value
    explained = returns.explained_variance(memo.value, target, valid)
    advantage = returns.weigh(advantage, hyper.value_weights)
    moments = normalize.update(state.value_moments, target, valid)
    state = state._replace(
        value_moments=moments, advantage_moments=normalize.update(state.advantage_moments, advantage, valid)
    )
    pieces = rollout.reset.shape[0] // parts.segment_length  # P
    batch = Batch(
        obs=parts.normalize_obs(state.obs_moments, rollout.obs),
        mirrors=tuple(parts.normalize_obs(state.obs_moments, mirror.obs(rollout.obs)) for mirror in parts.symmetries),
        reset=rollout.reset,
        memo=memo._replace(value=parts.normalize_value(moments, memo.value)),
        advantage=parts.normalize_advantage(state.advantage_moments, advantage, valid),
        target=parts.normalize_value(moments, target),
        valid=valid,
        carry=jax.tree.map(lambda x: x[:: x.shape[0] // pieces], rollout.carry),
    )
    return state, batch, novelty_metrics | {"update/explained_variance": explained}


def split(params: PyTree, owns: Callable) -> tuple[PyTree, PyTree]:
    """The branches of the parameters that a phase owns, and the rest."""
    mine = {name: branch for name, branch in params.items() if owns(name)}
    return mine, {name: branch for name, branch in params.items() if name not in mine}
