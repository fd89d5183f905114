"""The smaller and the larger of two numbers, with a gradient that is a choice.

JAX's own `minimum` shares a gradient out where both are equal, by two comparisons and a division, of which compilers
make a kernel of its own for each. Here the first of equals has all of it. NaN comes through, as it does there.
"""

import jax
import jax.numpy as jnp

from jaxrl.types import Array


@jax.custom_jvp
def smaller(x: Array, y: Array) -> Array:
    """min(x, y), [...] each."""
    return jnp.minimum(x, y)


@smaller.defjvp
def _(primals, tangents):
    x, y = primals
    return smaller(x, y), jnp.where(x <= y, *tangents)


@jax.custom_jvp
def larger(x: Array, y: Array) -> Array:
    """max(x, y), [...] each."""
    return jnp.maximum(x, y)


@larger.defjvp
def _(primals, tangents):
    x, y = primals
    return larger(x, y), jnp.where(x >= y, *tangents)


def clip(x: Array, low: Array | float, high: Array | float) -> Array:
    """x, low below that and high above; on the edge its gradient is 1."""
    return smaller(larger(x, low), high)
