"""The terms of PPO's loss on a minibatch."""

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
    terms = _policy_terms(parts, hyper, distributions, batch, last) | _value_terms(parts, hyper, values, batch)
    means = masked.means(terms, batch.valid)
    policy_term, (kl, note, metrics) = _policy_loss(parts, params, hyper, distributions[0], batch, means)
    return policy_term + hyper.value_cost * means["value"], (kl, note, metrics | {"loss/value": means["value"]})


def policy_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of the policy alone; arguments and result are those of `joint_loss`."""
    distributions = [parts.network.apply(params, *_inputs(view))[0] for view in _views(parts, batch)]
    means = masked.means(_policy_terms(parts, hyper, distributions, batch, last), batch.valid)
    return _policy_loss(parts, params, hyper, distributions[0], batch, means)


def critic_loss(parts: Parts, params: PyTree, hyper: Hyper, batch: Batch, last: PyTree):
    """The loss of the critic alone; arguments and result are those of `joint_loss`."""
    values = [parts.network.value(params, *_inputs(view)) for view in _views(parts, batch)]
    means = masked.means(_value_terms(parts, hyper, values, batch), batch.valid)
    return means["value"], (jnp.zeros(()), last, {"loss/value": means["value"]})


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


# A term is of each sample, [S, B, ...]; the means of all are taken at once, which is one sum over the devices.


def _policy_terms(parts, hyper, distributions, batch, last):
    """What the policy's loss and its metrics are means of."""
    config, memo, distribution = parts.config, batch.memo, distributions[0]
    surrogate = losses.SURROGATES[config.surrogate]
    advantage = parts.normalize_minibatch(batch.advantage, batch.valid)
    log_ratios = [
        distribution.log_prob(view.memo.sample) - memo.log_prob
        for distribution, view in zip(distributions, _views(parts, batch), strict=True)
    ]
    terms = {
        "policy": _average(parts, [surrogate(log_ratio, advantage, hyper.clip) for log_ratio in log_ratios]),
        "entropy": distribution.entropy(),
        "bound": losses.BOUND_LOSSES[config.bound_loss](distribution.means()),
        "behaviour_kl": memo.distribution.kl(distribution),
        "kl": parts.reference(memo.distribution, last).kl(distribution),
        "clip_fraction": (jnp.abs(jnp.expm1(log_ratios[0])) > hyper.clip).astype(jnp.float32),
    }
    if parts.symmetries:  # how far the means in the mirrors are from the mirrored means
        means = jax.lax.stop_gradient(distribution.means())
        seen = zip(parts.symmetries, distributions[1:], strict=True)
        terms["mirror"] = sum(jnp.square(mirrored.means() - mirror.action(means)) for mirror, mirrored in seen)
    return terms


def _policy_loss(parts, params, hyper, distribution, batch, means):
    """The policy's loss of the means of its terms, and (KL from the reference, note for the next visit, metrics)."""
    auxiliary = parts.auxiliary(params, *_inputs(batch))
    mirror = {name: means[name] for name in ("mirror",) if name in means}
    costs = {"entropy": -hyper.entropy_cost, "behaviour_kl": hyper.kl_cost, "bound": hyper.bound_cost}
    costs |= {name: hyper.mirror_cost for name in mirror}
    total = means["policy"] + sum(auxiliary.values()) + sum(cost * means[name] for name, cost in costs.items())
    # The user's names come first, so that none of theirs can stand for one of ours.
    metrics = {f"loss/{name}": term for name, term in (auxiliary | mirror).items()}
    metrics |= {f"loss/{name}": means[name] for name in ("policy", "entropy", "bound")}
    metrics |= {f"update/{name}": means[name] for name in ("kl", "clip_fraction")}
    return total, (means["kl"], parts.note(distribution), metrics)


def _value_terms(parts, hyper, values, batch):
    """What the critic's loss is the mean of."""
    error = losses.VALUE_LOSSES[parts.config.value_loss]
    limit = jnp.where(hyper.value_clip > 0, hyper.value_clip, jnp.inf)
    return {"value": _average(parts, [seen.loss(batch.target, batch.memo.value, limit, error) for seen in values])}
