"""Trees as vectors: what goes where, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_a_row_is_one_leaf_that_keeps_its_names():
    row = vectors.row({"loss": jnp.float32(2.0), "kl": jnp.int32(3)})
    assert [leaf.shape for leaf in jax.tree.leaves(row)] == [(2,)]
    halves = jax.tree.map(lambda x: x / 2, row)
    assert {name: float(x) for name, x in halves.items()} == {"loss": 1.0, "kl": 1.5}
    assert "kl" in row and "entropy" not in row and len(row) == 2
    assert halves | {"kl": 0.0, "entropy": 2.0} == {"loss": 1.0, "kl": 0.0, "entropy": 2.0}
    assert {"kl": 0.0, "entropy": 2.0} | halves == {"loss": 1.0, "kl": 1.5, "entropy": 2.0}
    with pytest.raises(KeyError, match="entropy"):
        row["entropy"]


def test_a_row_crosses_to_the_host_as_one_array():
    row = jax.device_get(vectors.row({"loss": jnp.float32(2.0), "kl": jnp.float32(3.0)}))
    assert isinstance(row.values, np.ndarray)
    assert dict(row) == {"loss": 2.0, "kl": 3.0}


def test_rows_that_a_scan_stacks_have_a_number_a_step():
    _, rows = jax.lax.scan(lambda t, _: (t + 1, vectors.row({"t": t, "square": t * t})), jnp.int32(0), None, length=3)
    np.testing.assert_array_equal(rows["t"], [0, 1, 2])
    np.testing.assert_array_equal(rows["square"], [0, 1, 4])


def test_a_row_of_nothing_is_empty():
    assert dict(vectors.row({})) == {}
