"""Means over those rows of an array that count."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def mean(x: Array, valid: Array | None = None) -> Array:
    """The mean of x where `valid` holds; 0 if it holds nowhere. What stands elsewhere does not matter, NaN included.

    Args:
        x: [B1, B2, ..., ...].
        valid: [B1, B2, ...] bool, of the leading axes of x; all count by default.
    """
    return jnp.mean(x) if valid is None else means({"x": x}, valid)["x"]


def means(terms: dict[str, Array], valid: Array) -> dict[str, Array]:
    """The `mean` of each of several terms, [] each, by one sum: over devices, each sum costs the time of a meeting.

    Args:
        terms: [B1, B2, ..., ...] each.
        valid: [B1, B2, ...] bool, of the leading axes of all.
    """
    samples = [jnp.mean(x.reshape(*valid.shape, -1), axis=-1) for x in terms.values()]
    rows = jnp.stack([*samples, jnp.ones(valid.shape)], axis=-1)
    sums = jnp.sum(jnp.where(valid[..., None], rows, 0), axis=tuple(range(valid.ndim)))
    *sums, number = (x.reshape(()) for x in jax.lax.split(sums, [1] * len(sums)))
    number = jax.lax.stop_gradient(jnp.maximum(number, 1.0))
    return {name: total / number for name, total in zip(terms, sums, strict=True)}


def across(leading: Array, x: Array) -> Array:
    """[B1, B2, ...] → [B1, B2, ..., 1, 1], as many axes as x has, so that it holds for all that x has in a row."""
    return leading.reshape(*leading.shape, *([1] * (x.ndim - leading.ndim)))
