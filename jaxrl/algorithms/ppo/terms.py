"""The terms of PPO's loss on a minibatch."""

import functools

import jax
import jax.numpy as jnp

from jaxrl.algorithms.ppo.config import Hyper
from jaxrl.algorithms.ppo.parts import Batch, Parts
from jaxrl.functional import losses, masked
from jaxrl.types import PyTree


def joint_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of policy and critic on a minibatch.

    Args:
        batch: [S, B, ...].
        last: what the last visit noted.

    Returns:
        The loss, and (KL from the reference, note for the next visit, terms of the loss).
    """
    outputs = [parts.network.apply(params, *_inputs(view)) for view in _views(parts, batch)]
    distributions, values, _ = zip(*outputs, strict=True)
    policy_term, (kl, note, metrics) = _policy_terms(parts, params, hyper, distributions, batch, last)
    value_term, value_metrics = _value_terms(parts, hyper, values, batch)
    return policy_term + hyper.value_cost * value_term, (kl, note, metrics | value_metrics)


def policy_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of the policy alone; arguments and result are those of `joint_loss`."""
    distributions = [parts.network.apply(params, *_inputs(view))[0] for view in _views(parts, batch)]
    return _policy_terms(parts, params, hyper, distributions, batch, last)


def critic_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of the critic alone; arguments and result are those of `joint_loss`."""
    values = [parts.network.value(params, *_inputs(view)) for view in _views(parts, batch)]
    term, metrics = _value_terms(parts, hyper, values, batch)
    return term, (jnp.zeros(()), last, metrics)


def novelty_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of the network that predicts random features; arguments and result are those of `joint_loss`."""
    term = masked.mean(parts.bonus.loss(params, batch.obs), batch.valid)
    return term, (jnp.zeros(()), last, {"loss/novelty": term})


def _inputs(batch):
    """(carry [B, ...], obs [S, B, ...], reset [S, B]): what a network is given."""
    return jax.tree.map(lambda x: x[0], batch.carry), batch.obs, batch.reset


def _views(parts, batch):
    """The minibatch, and the minibatch in each mirror of the task."""
    mirrored = [
        batch._replace(obs=obs, memo=batch.memo._replace(sample=mirror.action(batch.memo.sample)))
        for mirror, obs in zip(parts.symmetries, batch.mirrors, strict=True)
    ]
    return [batch, *mirrored]


def _average(parts, terms):
    """The mean of a term over the views, of which the mirrored ones have a weight of their own."""
    weight = parts.config.symmetry_weight
    return (terms[0] + weight * sum(terms[1:])) / (1 + weight * len(terms[1:]))


def _policy_terms(parts, params, hyper, distributions, batch, last):
    """The policy's loss, and (KL from the reference, note for the next visit, its terms)."""
    config, memo, distribution = parts.config, batch.memo, distributions[0]
    mean = functools.partial(masked.mean, valid=batch.valid)
    surrogate = losses.SURROGATES[config.surrogate]
    advantage = parts.normalize_minibatch(batch.advantage, batch.valid)
    log_ratios = [
        distribution.log_prob(view.memo.sample) - memo.log_prob
        for distribution, view in zip(distributions, _views(parts, batch), strict=True)
    ]
    policy_loss = _average(parts, [mean(surrogate(log_ratio, advantage, hyper.clip)) for log_ratio in log_ratios])
    entropy = mean(distribution.entropy())
    bound_loss = mean(losses.BOUND_LOSSES[config.bound_loss](distribution.means()))
    behaviour_kl = mean(memo.distribution.kl(distribution))
    kl = mean(parts.reference(memo.distribution, last).kl(distribution))
    auxiliary, mirror = parts.auxiliary(params, *_inputs(batch)), _mirror_loss(parts, distributions, mean)
    total = policy_loss - hyper.entropy_cost * entropy + hyper.kl_cost * behaviour_kl + hyper.bound_cost * bound_loss
    total = total + sum(auxiliary.values()) + hyper.mirror_cost * sum(mirror.values())
    metrics = {
        "loss/policy": policy_loss,
        "loss/entropy": entropy,
        "loss/bound": bound_loss,
        "update/kl": kl,
        "update/clip_fraction": mean((jnp.abs(jnp.expm1(log_ratios[0])) > hyper.clip).astype(jnp.float32)),
    }
    # The user's names come first, so that none of theirs can stand for one of ours.
    metrics = {f"loss/{name}": term for name, term in (auxiliary | mirror).items()} | metrics
    return total, (kl, parts.note(distribution), metrics)


def _mirror_loss(parts, distributions, mean):
    """How far the policy's means in the mirrors are from its mirrored means; {} without mirrors."""
    if not parts.symmetries:
        return {}
    means = jax.lax.stop_gradient(distributions[0].means())
    seen = zip(parts.symmetries, distributions[1:], strict=True)
    return {"mirror": sum(mean(jnp.square(mirrored.means() - mirror.action(means))) for mirror, mirrored in seen)}


def _value_terms(parts, hyper, values, batch):
    """The critic's loss and its metrics."""
    error = losses.VALUE_LOSSES[parts.config.value_loss]
    limit = jnp.where(hyper.value_clip > 0, hyper.value_clip, jnp.inf)
    terms = [seen.loss(batch.target, batch.memo.value, limit, error) for seen in values]
    value_loss = _average(parts, [masked.mean(term, batch.valid) for term in terms])
    return value_loss, {"loss/value": value_loss}
