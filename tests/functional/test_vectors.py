"""Trees as vectors: what goes where, and back."""

import jax.numpy as jnp
import numpy as np

from jaxrl.functional import vectors

TREE = {"b": jnp.arange(6.0).reshape(2, 3), "a": {"x": jnp.float32(7)}, "c": jnp.full((1, 2, 1), 9.0)}


def test_leaves_stand_end_to_end_in_the_order_of_the_tree():
    np.testing.assert_array_equal(vectors.join(TREE), [7, 0, 1, 2, 3, 4, 5, 9, 9])


def test_parts_are_what_was_joined_in_the_dtypes_asked_for():
    like = TREE | {"c": jnp.zeros((1, 2, 1), jnp.bfloat16)}
    parts = vectors.part(vectors.join(TREE), like)
    assert parts["c"].dtype == jnp.bfloat16 and parts["b"].dtype == jnp.float32
    for name, leaf in TREE.items():
        np.testing.assert_array_equal(*(x["x"] if name == "a" else x for x in (parts[name], leaf)))
