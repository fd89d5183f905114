"""What PPO makes of a rollout: advantages and value targets, then passes of minibatches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms.ppo.parts import Batch, Parts, Phase, State
from jaxrl.functional import masked, minibatches, normalize, returns, schedules, vectors
from jaxrl.types import Array, Key, PyTree, Rollout


def update(parts: Parts, state: State, rollout: Rollout, key: Key) -> tuple[State, dict[str, Array]]:
    """Learns from one rollout: each phase makes its passes of `num_minibatches` steps of Adam each."""
    state, rollout, novelty_metrics = shape(parts, state, rollout)
    state, batch, metrics = prepare(parts, state, rollout)
    metrics |= novelty_metrics
    segments = minibatches.segment(batch._replace(carry=()), parts.segment_length, parts.groups)
    segments = segments._replace(carry=minibatches.segment(batch.carry, 1, parts.groups))
    number, ends = segments.valid.shape[2], np.cumsum([phase.epochs for phase in parts.phases.values()])
    hands = minibatches.deal_passes(
        key, int(ends[-1]), parts.groups, number, parts.num_minibatches, parts.config.shuffle
    )
    for name, mine in zip(parts.phases, jnp.split(hands, ends[:-1]), strict=True):
        state, learned = learn(parts, name, state, segments, rollout, mine)
        metrics |= learned
    state = state._replace(
        # Only now: the policy that learns sees observations as the one that acted saw them.
        obs_moments=parts.follow_obs(state.obs_moments, rollout.obs, rollout.valid),
        updates=state.updates + 1,
    )
    return state, metrics


def learn(
    parts: Parts, name: str, state: State, segments: Batch, rollout: Rollout, hands: Array
) -> tuple[State, dict[str, Array]]:
    """One phase: its passes over the segments of a rollout, as `hands` deals them; metrics are means over the last."""
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
        minibatch = sure(parts, minibatch)
        (_, (kl, note, metrics)), gradient = jax.value_and_grad(loss_of_mine, has_aux=True)(mine, minibatch, last)
        gradient = vectors.join(gradient)
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        limit = jnp.where(hyper.max_gradient_norm > 0, hyper.max_gradient_norm, jnp.inf)
        change, optimizer = parts.optimizer.update(gradient * jnp.minimum(1.0, limit / norm), optimizer)
        # The rate multiplies out here, so that nothing has to reach into the optimiser's state.
        mine = jax.tree.map(lambda p, c: p - learning_rate * decay * c, mine, vectors.part(change, mine))
        metrics |= {phase.metric + "gradient_norm": norm, phase.metric + "learning_rate": learning_rate * decay}
        return (mine, optimizer, phase.adapt(learning_rate, kl, hyper.target_kl)), note, (kl, vectors.row(metrics))

    def one_pass(carry, now):
        (learner, notes), (number, hands) = carry, now
        seen = segments
        if parts.config.recompute_advantage:
            params = {**rest, **learner[0]}
            seen = jax.lax.cond(number > 0, lambda: refresh(parts, state, params, rollout, segments), lambda: segments)
        learner, notes, (kl, metrics) = minibatches.sweep(step, learner, seen, notes, hands)
        mine, optimizer, learning_rate = learner
        return ((mine, optimizer, phase.adapt_pass(learning_rate, jnp.mean(kl), hyper.target_kl)), notes), metrics

    learner = (mine, state.optimizer[name], getattr(hyper, phase.rate))
    notes = phase.note(segments.memo.distribution)
    if not happens_between(parts, phase):  # all passes are one long one, and a loop less to compile
        hands = hands.reshape(1, -1, *hands.shape[2:])
    (learner, _), metrics = jax.lax.scan(one_pass, (learner, notes), (jnp.arange(len(hands)), hands))
    mine, optimizer, learning_rate = learner
    state = state._replace(
        params={branch: {**rest, **mine}[branch] for branch in state.params},
        optimizer=state.optimizer | {name: optimizer},
        hyper=state.hyper._replace(**{phase.rate: learning_rate}),
    )
    return state, dict(jax.tree.map(lambda x: jnp.mean(x[-1, -parts.num_minibatches :], axis=0), metrics))


def happens_between(parts: Parts, phase: Phase) -> bool:
    """Whether passes are something of their own: advantages or the rate are new with each, or nothing is dealt."""
    is_rate_new = phase.adapt_pass is not schedules.unmoved
    return parts.config.recompute_advantage or is_rate_new or parts.num_minibatches == 1


def shape(parts: Parts, state: State, rollout: Rollout) -> tuple[State, Rollout, dict[str, Array]]:
    """The rollout with the rewards that learning sees, shaped and with the bonus for novelty; metrics of the bonus."""
    rollout = sure(parts, rollout)
    state, bonus, metrics = parts.bonus.reward(parts, state, rollout)
    reward = parts.shape_reward(rollout.reward)
    reward = reward + masked.across(jnp.broadcast_to(bonus, rollout.valid.shape), reward)
    return state, rollout._replace(reward=reward), metrics


def sure(parts: Parts, seen: Rollout | Batch) -> Rollout | Batch:
    """With `valid` a constant where the environment promised it: the compiler then leaves out what asks for it."""
    return seen._replace(valid=seen.valid | parts.spec.all_valid)


def prepare(parts: Parts, state: State, rollout: Rollout) -> tuple[State, Batch, dict[str, Array]]:
    """Advantages and value targets of a rollout: the state whose normalisers have seen them, the batch, metrics."""
    memo, valid = rollout.memo, rollout.valid
    advantage, target = estimate(parts, state, rollout, memo.value)
    moments = normalize.update(state.value_moments, target, valid)
    state = state._replace(
        value_moments=moments, advantage_moments=parts.follow_advantage(state.advantage_moments, advantage, valid)
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
    return state, batch, {"update/explained_variance": returns.explained_variance(memo.value, target, valid)}


def estimate(parts: Parts, state: State, rollout: Rollout, value: Array) -> tuple[Array, Array]:
    """Advantages [T, N] and value targets, in units of the return; value: V of the rollout's observations, likewise."""
    hyper, last_reset = state.hyper, rollout.last_reset

    def value_of(obs, carry, reset):
        return evaluate(parts, state, jax.tree.map(lambda x: x[None], obs), carry, reset[None])[0]

    # Row by row, as the policy acted: what is compiled for that then serves here too, where it would compile anew.
    last_value = value_of(rollout.last_obs, rollout.last_carry, last_reset)
    going_on = jnp.zeros_like(last_reset)
    final_value = jax.lax.map(lambda final: value_of(*final, going_on), (rollout.final_obs, rollout.final_carry))
    next_value = returns.next_values(value, last_value, parts.bootstrap(value, final_value), rollout.truncated)
    done = rollout.terminated | rollout.truncated
    advantage = returns.gae(
        rollout.reward, value, next_value, rollout.terminated, done, gamma=hyper.gamma, lambda_=hyper.lambda_
    )
    return returns.weigh(advantage, hyper.value_weights), advantage + value


def refresh(parts: Parts, state: State, params: PyTree, rollout: Rollout, segments: Batch) -> Batch:
    """The segments with values, advantages and targets by other parameters, and by the normalisers as they are."""
    state = state._replace(params=params)
    value = evaluate(parts, state, rollout.obs, jax.tree.map(lambda x: x[0], rollout.carry), rollout.reset)
    advantage, target = estimate(parts, state, rollout, value)
    value, target = (parts.normalize_value(state.value_moments, x) for x in (value, target))
    advantage = parts.normalize_advantage(state.advantage_moments, advantage, rollout.valid)
    value, advantage, target = minibatches.segment((value, advantage, target), parts.segment_length, parts.groups)
    return segments._replace(memo=segments.memo._replace(value=value), advantage=advantage, target=target)


def evaluate(parts: Parts, state: State, obs: PyTree, carry: PyTree, reset: Array) -> Array:
    """V of observations [T, N, ...] from the carry [N, ...] on, in units of the return."""
    value = parts.network.value(state.params, carry, parts.normalize_obs(state.obs_moments, obs), reset)
    return parts.denormalize_value(state.value_moments, value.expectation())


def split(params: PyTree, owns: Callable) -> tuple[PyTree, PyTree]:
    """The branches of the parameters that a phase owns, and the rest."""
    mine = {name: branch for name, branch in params.items() if owns(name)}
    return mine, {name: branch for name, branch in params.items() if name not in mine}
