"""Mapping with the mapped axis last gives what `jax.vmap` gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrl.functional import lanes
from tests.functional.functions import FUNCTIONS, ROWS, SUMS, leaves, some_rows


@pytest.fixture(scope="module")
def rows():
    return some_rows()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_what_jax_vmap_gives(name, rows):
    function = FUNCTIONS[name]
    expected, found = jax.vmap(function)(*rows), jax.jit(lanes.vmap(function))(*rows)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert leaves(found) == leaves(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if name in SUMS:
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
        else:
            np.testing.assert_allclose(one, other, rtol=3e-7, atol=1e-7)


def shapes_of(jaxpr):
    """Of all results of all equations, inside functions and loops too."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from shapes_of(inner.jaxpr)


def test_the_rows_stay_last(rows):
    def turn(x, y, wide, n):
        def one(point, _):
            return jnp.cross(x, point) + y.T @ (y @ point), None

        return lax.scan(one, wide[:, 0], None, length=2)[0]

    rows = [np.repeat(x, 20, axis=0) for x in rows]  # a length that nothing else has
    traced = jax.make_jaxpr(lanes.vmap(turn))(*rows)
    shapes = [shape for shape in shapes_of(traced.jaxpr) if 100 in shape]
    first = [shape for shape in shapes if shape[0] == 100 and len(shape) > 1]
    assert first == [(100, 3)]  # the result, handed out
    assert len(shapes) > 30


def test_it_can_be_mapped_and_differentiated(rows):
    x, y, *_ = rows
    function = lambda x, y: jnp.sum(jnp.tanh(y @ x))  # noqa: E731
    slope = jax.grad(lambda x: lanes.vmap(function)(x, y).sum())(x)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(function))(x, y), rtol=1e-5)
    both = jax.vmap(lanes.vmap(function))(np.stack([x, 2 * x]), np.stack([y, y]))
    np.testing.assert_allclose(both, [jax.vmap(function)(x, y), jax.vmap(function)(2 * x, y)], rtol=1e-5)


def test_typed_keys_are_rows_too():
    keys = jax.random.split(jax.random.key(0), ROWS)

    def draw(key):
        key, own = jax.random.split(key)
        return key, jax.random.uniform(own, (2,))

    with jax.debug_key_reuse(False):  # which takes the second of two that stand in columns for the first
        (one, drawn), (other, expected) = lanes.vmap(draw)(keys), jax.vmap(draw)(keys)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(jax.random.key_data(one), jax.random.key_data(other))
