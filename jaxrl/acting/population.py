"""Populations: who does badly takes over what a better one has learned, and goes on from there with other numbers.

Population-based training, Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846: truncation selection (section
4.1.1), then each number is multiplied by one of a few factors or drawn anew. One pure function of the states of all
members; a mesh may hold them any way.

Letters in shapes: S members.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key, PyTree


class Range(NamedTuple):
    """Where a number may lie, and how it is drawn from there."""

    low: float
    high: float
    quantile: Callable  # share in [0, 1) -> value


class Rules(NamedTuple):
    """How members are chosen and changed."""

    fraction: float  # of the members that is copied over, and from which copies are taken; in (0, 0.5]
    factors: tuple[float, ...]  # one of which multiplies a number
    resample: float  # probability that a number is drawn anew instead


def exploit(key: Key, agents: PyTree, score: Array, ranges: Mapping[str, Range], rules: Rules) -> tuple[PyTree, Array]:
    """The agents after the worst have become copies of the best whose Hyper is a little different.

    A copy takes over all that learning changes: parameters, optimiser, normalisers, and Hyper as it stands, a rate that
    has adapted itself included. Environments and random keys are not the agent's: they stay who they were.

    Args:
        key: of this exploit.
        agents: [S, ...] the states of an algorithm, whose `hyper` is a NamedTuple.
        score: [S] the higher the better; one that is not finite is the worst of all.
        ranges: of the numbers of Hyper, [S] each, that change in a copy.
        rules: how.

    Returns:
        The agents, and of each the member that it is now a copy of: [S] int32, itself where it was left alone.
    """
    select_key, explore_key = jax.random.split(key)
    parent = select(select_key, score, rules.fraction)
    is_copy = parent != jnp.arange(score.size)
    agents = jax.tree.map(lambda x: x[parent], agents)
    hyper = agents.hyper
    changed = {
        name: jnp.where(is_copy, explore(field_key, getattr(hyper, name), ranges[name], rules), getattr(hyper, name))
        for name, field_key in zip(ranges, jax.random.split(explore_key, len(ranges)), strict=True)
    }
    return agents._replace(hyper=hyper._replace(**changed)), parent


def select(key: Key, score: Array, fraction: float) -> Array:
    """Truncation selection: each of the worst is to become a copy of one of the best, drawn at random.

    Nobody is copied over by one that did no better: where all have the same score, as before the first reward was
    found, nothing happens.

    Args:
        score: [S]; one that is not finite is the worst of all, and its member always among those that are copied over.
        fraction: of S, rounded up, that are the worst; as many are the best. In (0, 0.5].

    Returns:
        [S] int32, whose copy each member becomes; itself where it stays.
    """
    size = score.size
    count = group_size(size, fraction)
    is_sound = jnp.isfinite(score)
    score = jnp.where(is_sound, score, -jnp.inf)
    order = jnp.argsort(-score, stable=True)
    rank = jnp.zeros(size, jnp.int32).at[order].set(jnp.arange(size, dtype=jnp.int32))
    num_best = jnp.clip(jnp.sum(is_sound), 1, count)
    candidate = order[jax.random.randint(key, (size,), 0, num_best)]
    is_worst = (rank >= size - count) | ~is_sound
    return jnp.where(is_worst & (score[candidate] > score), candidate, jnp.arange(size)).astype(jnp.int32)


def explore(key: Key, value: Array, range_: Range, rules: Rules) -> Array:
    """[S] numbers near those given, or drawn anew; within the range."""
    factor_key, whether_key, draw_key = jax.random.split(key, 3)
    perturbed = value * jax.random.choice(factor_key, jnp.array(rules.factors, value.dtype), value.shape)
    drawn = range_.quantile(jax.random.uniform(draw_key, value.shape, value.dtype))
    is_drawn = jax.random.bernoulli(whether_key, rules.resample, value.shape)
    return jnp.clip(jnp.where(is_drawn, drawn, perturbed), range_.low, range_.high).astype(value.dtype)


def group_size(size: int, fraction: float) -> int:
    """How many of `size` members are the best, and how many the worst: fraction · S rounded up, at most half."""
    return min(math.ceil(fraction * size - 1e-6), size // 2)  # 0.2 x 15 is a little more than 3


def uniform(low: float, high: float) -> Range:
    """Every value between the bounds as likely."""
    return Range(low, high, lambda share: low + (high - low) * share)


def loguniform(low: float, high: float) -> Range:
    """Every order of magnitude between the bounds as likely; 0 < low."""
    log_low, log_high = jnp.log(low), jnp.log(high)
    return Range(low, high, lambda share: jnp.exp(log_low + (log_high - log_low) * share))


def choice(values: tuple[float, ...]) -> Range:
    """One of a few values, each as likely; what is perturbed may lie between them."""

    def quantile(share: Array) -> Array:
        return jnp.array(values, share.dtype)[(share * len(values)).astype(jnp.int32)]

    return Range(min(values), max(values), quantile)


DRAWS = {"uniform": uniform, "loguniform": loguniform}
