"""A tree of arrays as one vector: what is done to every number alike is then done by one kernel, not by one a leaf."""

import math

import jax
import jax.numpy as jnp

from jaxrl.types import Array, PyTree


def join(tree: PyTree) -> Array:
    """[P], the numbers of all leaves end to end."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def part(vector: Array, like: PyTree) -> PyTree:
    """The tree, of shapes and dtypes as `like`, that the vector [P] was joined of."""
    leaves, treedef = jax.tree.flatten(like)
    pieces = jax.lax.split(vector, [math.prod(leaf.shape) for leaf in leaves])
    return treedef.unflatten(
        piece.reshape(leaf.shape).astype(leaf.dtype) for piece, leaf in zip(pieces, leaves, strict=True)
    )
