"""Running mean and variance of a stream of batches, and what is made of them.

The merge keeps mean and variance (not sums), each with the low-order part that float32 would lose, so that the result
stays exact after 1e11 samples, when one batch moves the mean by less than its last digit.

Images of bytes (uint8) and masks (bool) are not normalised: they go through as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.functional import masked
from jaxrl.types import Array, PyTree


class Moments(NamedTuple):
    """Mean and variance of all samples seen; each number is the sum of a high and a low float32 part."""

    count: tuple[Array, Array]  # [] samples
    mean: PyTree  # of (high, low), each of the shape of one sample
    variance: PyTree  # likewise; population variance


def init(sample: PyTree) -> Moments:
    """Moments of nothing yet: mean 0, variance 1, so that normalising with them changes nothing.

    Args:
        sample: pytree of arrays or jax.ShapeDtypeStruct, the shape of one sample.
    """

    def pair(value):
        both = lambda x: (jnp.full(x.shape, value, jnp.float32), jnp.zeros(x.shape)) if _is_number(x) else ()  # noqa: E731
        return jax.tree.map(both, sample)

    return Moments((jnp.zeros(()), jnp.zeros(())), pair(0.0), pair(1.0))


def update(moments: Moments, batch: PyTree, valid: Array | None = None) -> Moments:
    """Merges the moments of a batch into the running ones.

    With w = n / (count + n), δ = mean_batch - mean:  mean += w δ,  var += w (var_batch - var) + w (1 - w) δ².
    Chan, Golub & LeVeque 1979, http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf.

    Args:
        moments: of samples of shape [...].
        batch: pytree of [B1, B2, ..., ...]; every axis before a sample's own is a batch axis.
        valid: [B1, B2, ...] bool, which samples count; all by default.
    """
    numbers = [x for x in jax.tree.leaves(batch) if _is_number(x)]
    if not numbers:
        return moments
    if valid is None:
        sample = jax.tree.leaves(moments.mean)[0]
        valid = jnp.ones(numbers[0].shape[: numbers[0].ndim - sample.ndim], bool)
    seen = measure(batch, valid)
    size, _ = seen.count
    count = _add(moments.count, size)
    weight = size / jnp.maximum(count[0], 1.0)

    def merge(_, mean, variance, seen_mean, seen_variance):
        if not mean:
            return (), ()
        delta = (seen_mean[0] - mean[0]) - mean[1]
        # In two steps: the difference of a small variance and a large one would have lost the small one's digits.
        variance = _add(variance, -weight * (variance[0] + variance[1]))
        variance = _add(variance, weight * seen_variance[0] + weight * (1 - weight) * jnp.square(delta))
        return _add(mean, weight * delta), variance

    return Moments(count, *_unzip(batch, jax.tree.map(merge, batch, *moments[1:], *seen[1:])))


def measure(batch: PyTree, valid: Array) -> Moments:
    """The moments of a batch alone, in two passes; 0 of nothing.

    The low part of the mean is the rounding error of the high one, and that of the variance what this error adds to
    it: of equal numbers the variance is 0. Whoever asks for the high parts alone does not pay for the low ones.

    Args:
        batch: pytree of [B1, B2, ..., ...].
        valid: [B1, B2, ...] bool, which samples count. What stands elsewhere does not matter, NaN included.
    """
    size = jnp.sum(valid, dtype=jnp.float32)

    def average(x):
        return jnp.sum(jnp.where(masked.across(valid, x), x, 0.0), tuple(range(valid.ndim))) / jnp.maximum(size, 1.0)

    def one(x):
        if not _is_number(x):
            return (), ()
        x = x.astype(jnp.float32)
        mean = average(x)
        centred = x - jnp.broadcast_to(mean, x.shape)
        low = average(centred)
        return (mean, low), (average(jnp.square(centred)), -jnp.square(low))

    return Moments((size, jnp.zeros_like(size)), *_unzip(batch, jax.tree.map(one, batch)))


def normalize(moments: Moments, x: PyTree, *, clip: float = jnp.inf, epsilon: float = 1e-5) -> PyTree:
    """(x - mean) / √(variance + ε), clipped to ± clip; x: pytree of [..., *sample]."""

    def one(x, mean, variance):
        if not mean:
            return x
        return jnp.clip((x - mean[0]) * jax.lax.rsqrt(variance[0] + epsilon), -clip, clip)

    return jax.tree.map(one, x, moments.mean, moments.variance)


def denormalize(moments: Moments, x: PyTree, *, epsilon: float = 1e-5) -> PyTree:
    """x √(variance + ε) + mean, the inverse of `normalize` where nothing was clipped."""

    def one(x, mean, variance):
        if not mean:
            return x
        return x * jnp.sqrt(variance[0] + epsilon) + mean[0]

    return jax.tree.map(one, x, moments.mean, moments.variance)


def standardize(x: Array, valid: Array | None = None, *, epsilon: float = 1e-8) -> Array:
    """(x - mean(x)) / (std(x) + ε), mean and deviation of the x that are `valid`: a bool of the same shape, or all."""
    seen = measure(x, jnp.ones(x.shape, bool) if valid is None else valid)
    high, low = seen.mean
    return ((x - high) - low) / (jnp.sqrt(jnp.maximum(sum(seen.variance), 0.0)) + epsilon)


def _unzip(batch, both):
    """The two trees of which `both` has a pair at each leaf of the batch."""
    return tuple(jax.tree.map(lambda _, pair, side=side: pair[side], batch, both) for side in (0, 1))


def _is_number(x):
    return x.dtype not in (jnp.uint8, jnp.bool_)


def _add(number: tuple[Array, Array], increment: Array | float) -> tuple[Array, Array]:
    """(high, low) + increment with the rounding error kept in `low` (Knuth's two-sum)."""
    high, low = number
    increment = increment + low
    total = high + increment
    rest = total - high
    return total, (high - (total - rest)) + (increment - rest)
