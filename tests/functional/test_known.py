"""What is known is worked out as the device would, and what is not is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrl.functional import hoist, jaxprs, known, lanes
from tests.functional.functions import leaves, names

A, B = np.array([[3, -4, 5], [0, 7, -2]]), np.array([[2, 3, -3], [5, 7, 4]])
FLOATS = A / 3 + 0.1, B / 7
BOTH = {
    "abs": lambda a, b: abs(a),
    "add": lambda a, b: a + b,
    "and": lambda a, b: (a > 0) & (b > 0),
    "broadcast_in_dim": lambda a, b: jnp.broadcast_to(a[0][:, None], (2, 3, 4)),
    "clamp": lambda a, b: lax.clamp(jnp.asarray(-2, a.dtype), a, jnp.asarray(4, a.dtype)),
    "concatenate": lambda a, b: lax.concatenate([a, b], 1),
    "convert_element_type": lambda a, b: (a > 0).astype(jnp.int8),
    "copy": lambda a, b: jnp.array(a, copy=True),
    "dot_general": lambda a, b: (a @ b.T, jnp.einsum("bij,bkji->bki", a[:, None], b[..., None, None] * a[0, 0])),
    "eq": lambda a, b: a == b,
    "gather": lambda a, b: (a[jnp.array([1, 0, 1])], a[:, jnp.array([2, -1])], a[jnp.array([0, 1]), jnp.array([1, 2])]),
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "iota": lambda a, b: lax.broadcasted_iota(jnp.int32, (2, 3, 2), 1) + a[:, :, None],
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "max": lambda a, b: jnp.maximum(a, b),
    "min": lambda a, b: jnp.minimum(a, b),
    "mul": lambda a, b: a * b,
    "ne": lambda a, b: a != b,
    "neg": lambda a, b: -a,
    "not": lambda a, b: ~(a > 0),
    "or": lambda a, b: (a > 0) | (b > 4),
    "pad": lambda a, b: (jnp.pad(a, ((1, 0), (2, 3)), constant_values=2), lax.pad(a[0, 0], a[0, 0], ())),
    "reduce_and": lambda a, b: jnp.all(a < 6, axis=1),
    "reduce_or": lambda a, b: jnp.any(a < 0, axis=0),
    "reduce_sum": lambda a, b: (a.sum(axis=1), a.sum()),
    "rem": lambda a, b: lax.rem(a, b),
    "reshape": lambda a, b: lax.reshape(a, (3, 2)),
    "select_n": lambda a, b: (lax.select_n(a > 0, a, b), lax.select_n(b[0, 0] > 0, a, b)),
    "slice": lambda a, b: lax.slice(a, (0, 0), (2, 3), (1, 2)),
    "squeeze": lambda a, b: lax.squeeze(a[:1], [0]),
    "sub": lambda a, b: a - b,
    "tile": lambda a, b: jnp.tile(a, (2, 3)),
    "transpose": lambda a, b: a.T,
}
OF_FLOATS = {
    "div": lambda a, b: (a / b, a / 0.0),
    "exp": lambda a, b: jnp.exp(a),
    "is_finite": lambda a, b: jnp.isfinite(a / 0.0),
    "pow": lambda a, b: jnp.power(abs(a), b),
    "sqrt": lambda a, b: jnp.sqrt(abs(a)),
}
ROUNDED = ("dot_general", "exp", "pow", "reduce_sum")
LEFT = {  # what the device says of it is its own
    "a float as a whole number": lambda x: lax.convert_element_type(x * 1e30, jnp.int32),
    "whole numbers divided": lambda x: lax.div(jnp.array([7, -7]), jnp.array([2, 2])),
    "a row that is not there": lambda x: x.at[jnp.array([1, 7])].get(mode="fill", fill_value=3.0),
    "less than there is": lambda x: lax.pad(x, 0.0, [(-1, 0, 0)]),
    "something between": lambda x: lax.pad(x, 0.0, [(0, 0, 1)]),
    "much": lambda x: jnp.broadcast_to(x, (known.LARGEST, x.size)),
    "of much": lambda x: jnp.ones(known.LARGEST + 1)[:3] + x[:3],
}
TRIED = [*((name, kind) for name in BOTH for kind in "if"), *((name, "f") for name in OF_FLOATS)]
MAPS = {
    "lanes": lambda function: lanes.vmap(lambda x: function()),
    "hoist": lambda function: hoist.hoisted(lambda x: function()),
    "hoist known": lambda function: hoist.hoisted(lambda x: function(), is_whole=False),
}


def made(function, how):
    """The names of its operations, and what it gives, without an argument that it asks for."""
    function = MAPS[how](function)
    x = jnp.ones(2)
    operations = set(names(jax.make_jaxpr(function)(x).jaxpr))
    found = jax.jit(function)(x)
    return operations, jax.tree.map(lambda x: x[1], found) if how == "lanes" else found


@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("name, kind", TRIED)
def test_it_is_worked_out_as_jax_does(name, kind, how):
    a, b = (A, B) if kind == "i" else FLOATS
    function = lambda: (BOTH | OF_FLOATS)[name](jnp.asarray(a, kind + "4"), jnp.asarray(b, kind + "4"))  # noqa: E731
    assert name in list(names(jax.make_jaxpr(function)().jaxpr))
    operations, found = made(function, how)
    assert name not in operations - {"broadcast_in_dim", "transpose"}  # rows for all, and put first
    expected = jax.jit(function)()
    assert leaves(found) == leaves(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if kind == "f" and name in ROUNDED:
            np.testing.assert_allclose(one, other, rtol=1e-6)
        else:
            np.testing.assert_array_equal(one, other)


def test_every_rule_is_tried():
    assert set(BOTH) | set(OF_FLOATS) == set(known.RULES)


@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("name", LEFT)
def test_what_the_device_has_its_own_opinion_of_is_left_to_it(name, how):
    function = lambda: LEFT[name](jnp.array([1.5, -2.0, 3.0]))  # noqa: E731
    _, found = made(function, how)
    np.testing.assert_array_equal(found, jax.jit(function)())


def test_a_loop_knows_what_it_closes_over():
    axes = jnp.eye(3)[jnp.array([0, 2])]

    def function(x):
        def turn(x, _):
            matrix = jnp.where(jnp.all(axes == jnp.array([[1.0, 0, 0]]), axis=1)[:, None], axes, -axes)
            return x + jnp.tanh(x) * matrix.sum(), None

        return lax.scan(turn, x, None, length=3)[0]

    rows = jnp.arange(8.0).reshape(4, 2)
    for mapped in (lanes.vmap(function), *(jax.vmap(hoist.hoisted(function, is_whole)) for is_whole in (True, False))):
        operations = set(names(jax.make_jaxpr(mapped)(rows).jaxpr))
        assert "tanh" in operations and not operations & {"eq", "reduce_and", "select_n", "reduce_sum"}
        np.testing.assert_allclose(mapped(rows), jax.vmap(function)(rows), rtol=1e-6)


def test_what_is_the_same_all_over_reaches_the_compiler_as_a_number():
    ones = np.ones((4, 5), np.float32)
    traced = jax.make_jaxpr(lambda: known.staged(ones))()
    assert not traced.consts
    np.testing.assert_array_equal(jax.jit(lambda: known.staged(ones))(), ones)
    for other in (np.arange(3.0), np.array([0.0, -0.0]), np.full(2, np.nan), np.float32(2), jnp.ones(2)):
        assert known.staged(other) is other


def test_only_what_can_be_read_now_is_known():
    assert all(map(known.is_known, (1, 2.5, True, np.float32(1), np.ones(2), jnp.ones(2))))
    seen = []
    jax.make_jaxpr(lambda x: seen.append(known.is_known(x)) or x)(1.0)
    assert seen == [False]
    assert not known.is_known(lanes.Lanes(jnp.ones(2)))


def test_keys_are_left():
    function = lambda: jax.random.key_data(jax.random.key(3)[None][0])  # noqa: E731
    np.testing.assert_array_equal(made(function, "hoist")[1], function())


def test_half_floats_are_worked_out_too():
    half = jnp.array([1.0, 2.5, -3.0], jnp.bfloat16)
    traced = jaxprs.live(lambda: (half * half, half / 3, half.sum()))
    found = jaxprs.run(traced.closed, [], lambda jaxpr, equation, operands: known.results(equation, operands))
    for one, other in zip(found, (half * half, half / 3, half.sum()), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
