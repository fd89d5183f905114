"""Symmetries of a task: what it looks like in a mirror, and what the same behaviour does there.

Mittal et al. 2024, https://arxiv.org/abs/2403.04359, with both of rsl_rl's ways, https://github.com/leggedrobotics/rsl_rl:
learning from mirrored samples too (`ppo.symmetry_weight`), and a loss on a policy that is not symmetric
(`ppo.mirror_cost`).

A user's module, named by `ppo.symmetry`, has `make(spec)`, which returns a tuple of Symmetry: one for each mirror.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array, PyTree


class Symmetry(NamedTuple):
    """One mirror. Both functions work on any leading axes."""

    obs: Callable[[PyTree], PyTree]  # raw observation [..., *sample] -> how it looks in the mirror
    action: Callable[[PyTree], PyTree]  # action [..., A] -> the action that does the same in the mirror


def signed_permutation(order: Sequence[int], sign: Sequence[float]) -> Callable[[Array], Array]:
    """A function of [..., F] whose element i is sign[i] · x[order[i]]: what most mirrors do with a vector.

    Args:
        order: [F], a permutation of 0..F-1.
        sign: [F], each 1 or -1.
    """
    if sorted(order) != list(range(len(order))) or len(sign) != len(order):
        raise ValueError(f"order={tuple(order)} must be a permutation, and sign={tuple(sign)} as long.")
    order, sign = jnp.asarray(order), jnp.asarray(sign, jnp.float32)

    def mirror(x: Array) -> Array:
        return jnp.take(x, order, axis=-1) * sign.reshape(*([1] * (x.ndim - 1)), -1)

    return mirror
