"""Proximal policy optimisation: clipped surrogate, GAE, several passes of minibatches over each rollout.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, with the recipe that robotics made of it: running
normalisation of observations and values, and a learning rate that follows the KL divergence.

Letters in shapes: T steps, N environments, A action size, S steps of a segment, G groups, M segments of a group.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxrl.functional import losses, minibatches, normalize, returns, schedules
from jaxrl.networks import actor_critic
from jaxrl.types import Algorithm, Array, ConfigError, Key, Network, PyTree, Rollout, Spec

LIMITS = {
    "num_envs": (1, None),
    "unroll_length": (1, None),
    "num_minibatches": (1, None),
    "update_epochs": (1, None),
    "segment_length": (0, None),
    "learning_rate": (0.0, 1.0),
    "learning_rate_share": (1e-3, 1.0),
    "learning_rate_bounds": (0.0, 1.0),
    "target_kl": (1e-8, 1e3),
    "gamma": (0.0, 1.0),
    "lambda_": (0.0, 1.0),
    "clip": (1e-6, 10.0),
    "value_clip": (0.0, None),
    "value_cost": (0.0, None),
    "entropy_cost": (None, None),
    "bound_cost": (0.0, None),
    "max_gradient_norm": (0.0, None),
    "adam_epsilon": (0.0, 1.0),
    "obs_clip": (0.0, None),
}
# What a minibatch's KL is measured from: (the rollout's policy, that of the last visit) -> the reference, and what the
# next visit is to know of this one.
KL_REFERENCES = {
    "rollout": (lambda behaviour, last: behaviour, lambda distribution: ()),
    "previous": (lambda behaviour, last: last, lambda distribution: distribution),
}
CHOICES = {
    "learning_rate_schedule": (*schedules.DECAYS, "adaptive_kl"),
    "surrogate": tuple(losses.SURROGATES),
    "value_loss": tuple(losses.VALUE_LOSSES),
    "normalize_advantage": ("batch", "minibatch", "running", "no"),
    "kl_reference": tuple(KL_REFERENCES),
    "adapt_interval": ("minibatch", "pass"),
}


def default_config() -> ConfigDict:
    """The group `ppo`."""
    config = ConfigDict()
    config.num_envs = 2048  # environments in parallel, over all devices
    config.unroll_length = 16  # steps of each environment in one rollout
    config.num_minibatches = 4  # of one pass over a rollout
    config.update_epochs = 4  # passes over a rollout
    config.shuffle = True  # minibatches are dealt anew in each pass; else always in the same order
    config.segment_length = 0  # steps of one environment that stay together in a minibatch; 0 = the whole rollout
    config.learning_rate = 3e-4  # at the start
    config.learning_rate_schedule = "constant"  # constant, linear or cosine to 0 over the run, adaptive_kl
    config.learning_rate_share = 1.0  # share of the run after which linear and cosine have come to 0
    config.learning_rate_bounds = (1e-6, 1e-2)  # within which adaptive_kl moves the rate
    config.target_kl = 0.01  # nats; adaptive_kl lowers the rate beyond twice this, raises it below half
    config.kl_reference = "rollout"  # KL is from the policy that acted (rollout), or from the last visit (previous)
    config.adapt_interval = "minibatch"  # adaptive_kl decides after every minibatch, or by the mean KL of a pass
    config.gamma = 0.99  # discount per step
    config.lambda_ = 0.95  # of the advantage estimate: 0 one-step TD, 1 Monte Carlo
    config.clip = 0.2  # the probability ratio counts within 1 ± clip
    config.surrogate = "clip"  # clip, smooth_clip (rl_games' smooth clamp)
    config.value_loss = "l2"  # l2, smooth_l1
    config.value_clip = 0.0  # the value may move by this in one update, in normalised units if they are; 0 = freely
    config.value_cost = 1.0  # weight of the value loss, which has its ½ inside
    config.entropy_cost = 0.0  # weight of the entropy bonus, per nat
    config.bound_cost = 0.0  # weight of the loss on policy means beyond ±1.1
    config.max_gradient_norm = 1.0  # global norm to which the gradient is scaled down; 0 = not
    config.adam_epsilon = 1e-8  # added to the root of the second moment
    config.normalize_obs = True  # by running mean and variance
    config.obs_clip = 10.0  # normalised observations lie within ± this
    config.normalize_value = True  # the critic learns returns normalised by running mean and variance
    config.normalize_advantage = (
        "batch"  # by mean and std of the rollout (batch), of each minibatch, of all so far (running), or no
    )
    return config


class Hyper(NamedTuple):
    """The numbers that may change without recompiling; see `default_config` for their units."""

    learning_rate: Array
    target_kl: Array
    gamma: Array
    lambda_: Array
    clip: Array
    value_clip: Array
    value_cost: Array
    entropy_cost: Array
    bound_cost: Array
    max_gradient_norm: Array


class State(NamedTuple):
    """The agent: everything that learning changes."""

    params: PyTree
    optimizer: PyTree
    obs_moments: normalize.Moments
    value_moments: normalize.Moments
    advantage_moments: normalize.Moments
    hyper: Hyper
    updates: Array  # [] int32 rollouts learned from


class Memo(NamedTuple):
    """What acting remembers of a step."""

    sample: Array  # [N, A] of the policy's distribution
    log_prob: Array  # [N]
    value: Array  # [N] in units of the return
    distribution: PyTree


class Batch(NamedTuple):
    """What is learned from: [T, N, ...] of a rollout, or [S, B, ...] of a minibatch."""

    obs: PyTree  # normalised
    reset: Array  # bool: obs is the first of its episode
    memo: Memo  # its value in units of the critic
    advantage: Array
    target: Array  # of the value, in units of the critic


class Parts(NamedTuple):
    """What the config chooses; fixed while the program runs."""

    network: Network
    optimizer: optax.GradientTransformation
    spec: Spec
    config: ConfigDict  # the group `ppo`
    groups: int  # G
    num_updates: int  # until the learning rate has decayed
    normalize_obs: Callable  # (moments, obs) -> obs
    normalize_value: Callable  # (moments, value) -> value
    denormalize_value: Callable  # (moments, value) -> value
    normalize_advantage: Callable  # (moments, advantage of a rollout) -> advantage
    normalize_minibatch: Callable  # advantage of a minibatch -> advantage
    decay: Callable  # progress -> factor of the learning rate
    adapt: Callable  # after a minibatch: (learning_rate, kl, target_kl) -> learning_rate
    adapt_pass: Callable  # after a pass: the same
    reference: Callable  # (distribution of the rollout, of the last visit) -> that which KL is measured from
    note: Callable  # distribution -> what the next visit is to know of it


def make(config: ConfigDict, spec: Spec) -> Algorithm:
    """PPO for the environments of `spec`.

    Args:
        config: the whole resolved config, of which it reads `ppo`, `network` and `total_env_steps`.
        spec: of the environments it will learn in.

    Raises:
        ConfigError: sizes that do not divide.
    """
    ppo = config.ppo
    groups = check_sizes(ppo)
    network = actor_critic.make(config.network, spec)
    keep = lambda moments, x: x  # noqa: E731
    adapt = schedules.unmoved
    if ppo.learning_rate_schedule in schedules.ADAPTATIONS:
        low, high = ppo.learning_rate_bounds
        adapt = functools.partial(schedules.ADAPTATIONS[ppo.learning_rate_schedule], minimum=low, maximum=high)
    reference, note = KL_REFERENCES[ppo.kl_reference]
    parts = Parts(
        network=network,
        optimizer=optax.scale_by_adam(eps=ppo.adam_epsilon),
        spec=spec,
        config=ppo,
        groups=groups,
        num_updates=config.total_env_steps * ppo.learning_rate_share / (ppo.num_envs * ppo.unroll_length),
        normalize_obs=functools.partial(normalize.normalize, clip=ppo.obs_clip) if ppo.normalize_obs else keep,
        normalize_value=normalize.normalize if ppo.normalize_value else keep,
        denormalize_value=normalize.denormalize if ppo.normalize_value else keep,
        normalize_advantage={
            "batch": lambda moments, x: normalize.standardize(x),
            "running": normalize.normalize,
        }.get(ppo.normalize_advantage, keep),
        normalize_minibatch=normalize.standardize if ppo.normalize_advantage == "minibatch" else lambda x: x,
        decay=schedules.DECAYS.get(ppo.learning_rate_schedule, schedules.constant),
        adapt=adapt if ppo.adapt_interval == "minibatch" else schedules.unmoved,
        adapt_pass=adapt if ppo.adapt_interval == "pass" else schedules.unmoved,
        reference=reference,
        note=note,
    )
    return Algorithm(
        init=functools.partial(init, parts),
        act=functools.partial(act, parts),
        policy=functools.partial(policy, parts),
        update=functools.partial(update, parts),
        carry=network.carry,
        hyper=Hyper(*(float(ppo[name]) for name in Hyper._fields)),
        unroll_length=ppo.unroll_length,
    )


def check_sizes(ppo: ConfigDict) -> int:
    """G, the groups in which minibatches are dealt; ConfigError if the sizes do not divide."""
    length = ppo.segment_length or ppo.unroll_length
    if ppo.unroll_length % length:
        divisors = [n for n in range(1, ppo.unroll_length + 1) if ppo.unroll_length % n == 0]
        raise ConfigError(
            f"config.ppo.segment_length={length} does not divide config.ppo.unroll_length={ppo.unroll_length}; "
            f"the nearest that does is {min(divisors, key=lambda n: abs(n - length))}."
        )
    segments = ppo.unroll_length // length
    groups = minibatches.num_groups(ppo.num_envs, segments, ppo.num_minibatches)
    if not groups:
        dealt = [n for n in range(1, ppo.num_envs * segments + 1) if (ppo.num_envs * segments) % n == 0]
        raise ConfigError(
            f"config.ppo.num_minibatches={ppo.num_minibatches} does not divide the {ppo.num_envs * segments} segments "
            f"of a rollout (config.ppo.num_envs={ppo.num_envs} x {segments}); "
            f"the nearest that does is {min(dealt, key=lambda n: abs(n - ppo.num_minibatches))}."
        )
    return groups


def init(parts: Parts, key: Key, hyper: Hyper) -> State:
    """An agent that has learned nothing; hyper: Hyper of Python or device numbers."""
    params = parts.network.init(key)
    return State(
        params=params,
        optimizer=parts.optimizer.init(params),
        obs_moments=normalize.init(parts.spec.obs),
        value_moments=normalize.init(jnp.zeros(())),
        advantage_moments=normalize.init(jnp.zeros(())),
        hyper=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper),
        updates=jnp.int32(0),
    )


def act(parts: Parts, state: State, carry: PyTree, obs: PyTree, reset: Array, key: Key) -> tuple[Array, PyTree, Memo]:
    """Samples actions for N environments and remembers what learning from them takes."""
    distribution, value, carry = _look(parts, state, carry, obs, reset)
    sample = distribution.sample(key)
    value = parts.denormalize_value(state.value_moments, value)
    return distribution.action(sample), carry, Memo(sample, distribution.log_prob(sample), value, distribution)


def policy(parts: Parts, state: State, carry: PyTree, obs: PyTree, reset: Array) -> tuple[Array, PyTree]:
    """The deterministic actions of N environments: what is evaluated and exported."""
    distribution, _, carry = _look(parts, state, carry, obs, reset)
    return distribution.action(distribution.mode()), carry


def _look(parts, state, carry, obs, reset):
    """The network's outputs for one step, [N, ...]."""
    obs = jax.tree.map(lambda x: x[None], parts.normalize_obs(state.obs_moments, obs))
    distribution, value, carry = parts.network.apply(state.params, carry, obs, reset[None])
    return jax.tree.map(lambda x: x[0], distribution), value[0], carry


def update(parts: Parts, state: State, rollout: Rollout, key: Key) -> tuple[State, dict[str, Array]]:
    """Learns from one rollout: `update_epochs` passes of `num_minibatches` steps of Adam each."""
    config, hyper = parts.config, state.hyper
    state, batch, metrics = prepare(parts, state, rollout)
    segments = minibatches.segment(batch, config.segment_length or config.unroll_length, parts.groups)
    decay = parts.decay(state.updates / parts.num_updates)

    def learn(learner, minibatch, last):
        params, optimizer, learning_rate = learner
        terms = jax.value_and_grad(loss, argnums=1, has_aux=True)
        (_, (distribution, metrics)), gradient = terms(parts, params, hyper, minibatch)
        kl = jnp.mean(parts.reference(minibatch.memo.distribution, last).kl(distribution))
        norm = optax.tree.norm(gradient)
        limit = jnp.where(hyper.max_gradient_norm > 0, hyper.max_gradient_norm, jnp.inf)
        gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, limit / norm), gradient)
        step, optimizer = parts.optimizer.update(gradient, optimizer, params)
        # The rate multiplies out here, so that nothing has to reach into the optimiser's state.
        params = jax.tree.map(lambda p, s: p - learning_rate * decay * s, params, step)
        metrics |= {"update/kl": kl, "update/gradient_norm": norm, "update/learning_rate": learning_rate * decay}
        learner = (params, optimizer, parts.adapt(learning_rate, kl, hyper.target_kl))
        return learner, parts.note(distribution), metrics

    def one_pass(state, key):
        learner, notes = state
        learner, notes, metrics = minibatches.sweep(
            learn, learner, segments, notes, key, config.num_minibatches, config.shuffle
        )
        params, optimizer, learning_rate = learner
        learning_rate = parts.adapt_pass(learning_rate, jnp.mean(metrics["update/kl"]), hyper.target_kl)
        return ((params, optimizer, learning_rate), notes), metrics

    learner = (state.params, state.optimizer, hyper.learning_rate)
    keys = jax.random.split(key, config.update_epochs)
    (learner, _), steps = jax.lax.scan(one_pass, (learner, parts.note(segments.memo.distribution)), keys)
    params, optimizer, learning_rate = learner
    last_pass = jax.tree.map(lambda x: jnp.mean(x[-1]), steps)
    state = state._replace(
        params=params,
        optimizer=optimizer,
        # Only now: the policy that learns sees observations as the one that acted saw them.
        obs_moments=normalize.update(state.obs_moments, rollout.obs),
        hyper=hyper._replace(learning_rate=learning_rate),
        updates=state.updates + 1,
    )
    return state, metrics | last_pass


def prepare(parts: Parts, state: State, rollout: Rollout) -> tuple[State, Batch, dict[str, Array]]:
    """Advantages and value targets of a rollout: the state whose normalisers have seen them, the batch, metrics."""
    hyper = state.hyper

    def value_of(obs, carry, reset):
        obs = jax.tree.map(lambda x: x[None], parts.normalize_obs(state.obs_moments, obs))
        value = parts.network.value(state.params, carry, obs, reset[None])[0]
        return parts.denormalize_value(state.value_moments, value)

    memo = rollout.memo
    last_value = value_of(rollout.last_obs, rollout.last_carry, rollout.last_reset)
    no_reset = jnp.zeros_like(rollout.last_reset)
    final_value = jax.vmap(lambda obs, carry: value_of(obs, carry, no_reset))(rollout.final_obs, rollout.final_carry)
    next_value = returns.next_values(memo.value, last_value, final_value, rollout.truncated)
    done = rollout.terminated | rollout.truncated
    advantage = returns.gae(
        rollout.reward, memo.value, next_value, rollout.terminated, done, gamma=hyper.gamma, lambda_=hyper.lambda_
    )
    target = advantage + memo.value
    metrics = {"update/explained_variance": returns.explained_variance(memo.value, target)}
    moments = normalize.update(state.value_moments, target)
    state = state._replace(
        value_moments=moments, advantage_moments=normalize.update(state.advantage_moments, advantage)
    )
    batch = Batch(
        obs=parts.normalize_obs(state.obs_moments, rollout.obs),
        reset=rollout.reset,
        memo=memo._replace(value=parts.normalize_value(moments, memo.value)),
        advantage=parts.normalize_advantage(state.advantage_moments, advantage),
        target=parts.normalize_value(moments, target),
    )
    return state, batch, metrics


def loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
    """The loss of a minibatch, the policy's distribution and the terms; batch: [S, B, ...]."""
    config, memo = parts.config, batch.memo
    carry = parts.network.carry(batch.advantage.shape[1])
    distribution, value, _ = parts.network.apply(params, carry, batch.obs, batch.reset)
    advantage = parts.normalize_minibatch(batch.advantage)
    log_ratio = distribution.log_prob(memo.sample) - memo.log_prob
    policy_loss = jnp.mean(losses.SURROGATES[config.surrogate](log_ratio, advantage, hyper.clip))

    value_error = losses.VALUE_LOSSES[config.value_loss]
    limit = jnp.where(hyper.value_clip > 0, hyper.value_clip, jnp.inf)
    clipped = losses.clipped_value(value, memo.value, limit)
    value_loss = jnp.mean(jnp.maximum(value_error(value - batch.target), value_error(clipped - batch.target)))

    entropy = jnp.mean(distribution.entropy())
    bound_loss = jnp.mean(losses.bound_loss(distribution.mean))
    total = policy_loss + hyper.value_cost * value_loss - hyper.entropy_cost * entropy + hyper.bound_cost * bound_loss
    metrics = {
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "loss/entropy": entropy,
        "loss/bound": bound_loss,
        "update/clip_fraction": jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > hyper.clip),
    }
    return total, (distribution, metrics)
