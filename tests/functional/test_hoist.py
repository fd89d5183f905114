"""A function that works things out sooner gives what it gave, and has no scatters left that it need not have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given as whatever
from hypothesis import strategies as draw
from jax import lax

from jaxrl.functional import hoist
from tests.functional.functions import FUNCTIONS, leaves, names, some_rows

PARENTS = np.array([3, 0, 3, 3, 4, 1])  # of six bodies

# Of x [6, 2], y [6], n [] int32, and what numpy makes of it by hand.
BODIES = {
    "sums": (lambda x, y, n: jax.ops.segment_sum(x, jnp.array(PARENTS), 5), lambda x, y, n: added(5, PARENTS, x)),
    "sums of some": (
        lambda x, y, n: jax.ops.segment_sum(x, jnp.array(PARENTS) - 1, 3),
        lambda x, y, n: added(3, [2, -9, 2, 2, -9, 0], x),
    ),
    "added to a few": (
        lambda x, y, n: x.at[jnp.array([4, 4, -1])].add(x[:3]),
        lambda x, y, n: x + added(6, [4, 4, 5], x[:3]),
    ),
    "added in a column": (lambda x, y, n: x.at[:, 1].add(y), lambda x, y, n: x + np.stack([0 * y, y], axis=1)),
    "added to what stands in a row": (
        lambda x, y, n: jnp.zeros(9).at[jnp.arange(6) + 2].add(y),
        lambda x, y, n: np.concatenate([[0, 0], y, [0]]),
    ),
    "added outside": (
        lambda x, y, n: y.at[jnp.array([6, -7, 2])].add(y[:3], mode="drop"),
        lambda x, y, n: y + np.array([0, 0, y[2], 0, 0, 0], np.float32),
    ),
    "added at the edge": (
        lambda x, y, n: y.at[jnp.array([9, 2])].add(y[:2], mode="clip"),
        lambda x, y, n: y + np.array([0, 0, y[1], 0, 0, y[0]], np.float32),
    ),
    "added to pairs": (
        lambda x, y, n: x.at[jnp.array([0, 0, 5]), jnp.array([1, 1, 0])].add(y[:3]),
        lambda x, y, n: x + added(12, [1, 1, 10], y[:3]).reshape(6, 2),
    ),
    "counted": (
        lambda x, y, n: jnp.zeros(5, jnp.int32).at[jnp.array(PARENTS)].add(jnp.arange(6, dtype=jnp.int32)),
        lambda x, y, n: np.array([1, 5, 0, 0 + 2 + 3, 4]),
    ),
    "put among numbers": (
        lambda x, y, n: jnp.arange(4, dtype=jnp.int32).at[jnp.array([3, 1])].set(jnp.array([7, 8])),
        lambda x, y, n: np.array([0, 8, 2, 7]),
    ),
    "put": (
        lambda x, y, n: x.at[jnp.array([2, 0])].set(x[3:5]),
        lambda x, y, n: np.stack([x[4], x[1], x[3], x[3], x[4], x[5]]),
    ),
    "put in a matrix": (
        lambda x, y, n: jnp.zeros((3, 3)).at[jnp.array([0, 1, 2]), jnp.array([2, 1, 2])].set(y[:3]),
        lambda x, y, n: np.array([[0, 0, y[0]], [0, y[1], 0], [0, 0, y[2]]]),
    ),
    "taken": (lambda x, y, n: x[jnp.array(PARENTS)], lambda x, y, n: x[PARENTS]),
    "taken as they stand": (lambda x, y, n: x[jnp.arange(6) % 6], lambda x, y, n: x),
    "taken in a row": (lambda x, y, n: x[jnp.arange(3) + 2], lambda x, y, n: x[2:5]),
    "taken from the back": (lambda x, y, n: x[jnp.array([-1, -2])], lambda x, y, n: x[[5, 4]]),
    "taken in pairs": (lambda x, y, n: x[jnp.array([[0, 1], [5, 2]])], lambda x, y, n: x[[[0, 1], [5, 2]]]),
    "taken across": (lambda x, y, n: x[:, jnp.array([1, 0, 1])], lambda x, y, n: x[:, [1, 0, 1]]),
    "taken from numbers": (
        lambda x, y, n: y[jnp.array(PARENTS)[jnp.array([1, 0])]],
        lambda x, y, n: y[[0, 3]],
    ),
    "taken out of a matrix": (
        lambda x, y, n: x[jnp.array([0, 3]), jnp.array([1, 0])],
        lambda x, y, n: x[[0, 3], [1, 0]],
    ),
}
# What is left as it is.
LEFT = {
    "more than can be written out": (
        lambda x, y, n: jnp.zeros(2).at[jnp.zeros(12, jnp.int32)].add(x.ravel()),
        lambda x, y, n: np.array([x.sum(), 0]),
    ),
    "to a little of much": (
        lambda x, y, n: jnp.zeros((hoist.SMALL + 1, 2)).at[jnp.array([3, 3])].add(x[:2]),
        lambda x, y, n: added(hoist.SMALL + 1, [3, 3], x[:2]),
    ),
    "where an argument says": (lambda x, y, n: x.at[n].add(1.0), lambda x, y, n: x + (np.arange(6) == n)[:, None]),
    "the larger": (
        lambda x, y, n: y.at[jnp.array([1, 2])].max(0.5),
        lambda x, y, n: np.array([y[0], *np.maximum(y[1:3], 0.5), *y[3:]]),
    ),
}
ELSEWHERE = {
    "nowhere": (
        lambda x, y, n: y.at[jnp.array([9, 0])].get(mode="fill", fill_value=7.0),
        lambda x, y, n: np.array([7, y[0]], np.float32),
    ),
    "where an argument says": (lambda x, y, n: x[n], lambda x, y, n: x[n]),
    "a window": (lambda x, y, n: lax.dynamic_slice(x, (n, 0), (2, 2)), lambda x, y, n: x[n : n + 2]),
}


def added(size, which, rows):
    """By hand: [size, ...], each row added to its number, if there is such a one."""
    total = np.zeros((size, *rows.shape[1:]), np.float32)
    for number, row in zip(which, rows, strict=True):
        if 0 <= number < size:
            total[number] += row
    return total


@pytest.fixture(scope="module")
def given():
    random = np.random.default_rng(0)
    return random.normal(size=(6, 2)).astype(np.float32), random.normal(size=6).astype(np.float32), np.int32(2)


def made(function, *arguments):
    """The names of its operations once it is hoisted, and what it gives."""
    traced = jax.make_jaxpr(hoist.hoisted(function))(*arguments)
    return list(names(traced.jaxpr)), jax.jit(hoist.hoisted(function))(*arguments)


@pytest.mark.parametrize("name", BODIES)
def test_known_rows_are_taken_and_added_as_they_stand(name, given):
    function, by_hand = BODIES[name]
    operations, found = made(function, *given)
    np.testing.assert_array_equal(found, by_hand(*given))
    assert found.dtype == jax.eval_shape(function, *given).dtype
    assert not [operation for operation in operations if operation.startswith("scatter")]
    assert "taken" not in name or not {"lt", "select_n"} & set(operations)


@pytest.mark.parametrize("name", LEFT)
def test_other_scatters_are_left(name, given):
    function, by_hand = LEFT[name]
    operations, found = made(function, *given)
    np.testing.assert_allclose(found, by_hand(*given), rtol=1e-6)
    assert [operation for operation in operations if operation.startswith("scatter")]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_not_known_is_taken_as_ever(name, given):
    function, by_hand = ELSEWHERE[name]
    np.testing.assert_array_equal(made(function, *given)[1], by_hand(*given))


@whatever(
    which=draw.lists(draw.integers(-7, 7), min_size=1, max_size=9),
    is_across=draw.booleans(),
    is_known=draw.booleans(),
    mode=draw.sampled_from(["drop", "clip", "fill"]),
    kind=draw.sampled_from([np.float32, np.int32]),
)
def test_any_rows_are_those_that_jax_takes_and_adds_to(which, is_across, is_known, mode, kind):
    x = np.arange(15).reshape(3, 5).astype(kind)
    length = x.shape[is_across]
    new = np.arange(1, 1 + x.size // length * len(which)).reshape(len(which), -1).astype(kind)
    place = (slice(None), np.array(which)) if is_across else np.array(which)
    places = np.clip([number + length * (number < 0) for number in which], 0, length - 1)
    is_clear = len(set(places)) == len(which)  # what is put at one place twice may be either

    def function(x, new):
        new = jnp.asarray(known if is_known else new)
        new = new.T if is_across else new
        put = x.at[place].set(new, mode=mode) if is_clear else x
        return x.at[place].add(new, mode=mode), x.at[place].get(mode=mode, fill_value=9), put

    known = new
    expected, found = jax.jit(function)(x, new), jax.jit(hoist.hoisted(function))(x, new)
    assert leaves(found) == leaves(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_maps_as_the_function_does(name):
    function, rows = FUNCTIONS[name], some_rows()
    expected, found = jax.vmap(function)(*rows), jax.jit(jax.vmap(hoist.hoisted(function)))(*rows)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert leaves(found) == leaves(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_a_loop_does_before_it_what_is_the_same_in_every_turn():
    weights = jnp.arange(9.0).reshape(3, 3)

    def function(x, y):
        def turn(carry, row):
            at, total = carry
            wide = jnp.broadcast_to(jnp.exp(y), (3, 3)) * jnp.tanh(weights)
            return (at + 1, jnp.sin(total) + wide @ row), total.sum()

        def goes_on(carry):
            return carry[0] < jnp.floor(y[0])

        scanned = lax.scan(turn, (jnp.int32(0), x), jnp.stack([x, 2 * x]))
        return scanned, lax.while_loop(goes_on, lambda carry: turn(carry, x)[0], (jnp.float32(0), x))

    x, y = jnp.array([1.0, 2.0, 3.0]), jnp.array([3.5, 0.1, 0.2])
    traced = jax.make_jaxpr(hoist.hoisted(function))(x, y)
    for name, asked in (("scan", "jaxpr"), ("while", "body_jaxpr")):
        [loop] = [equation for equation in traced.jaxpr.eqns if equation.primitive.name == name]
        inside = set(names(loop.params[asked].jaxpr))
        assert "sin" in inside and not inside & {"exp", "tanh"}
    [loop] = [equation for equation in traced.jaxpr.eqns if equation.primitive.name == "while"]
    assert "floor" not in list(names(loop.params["cond_jaxpr"].jaxpr))
    expected, found = jax.jit(function)(x, y), jax.jit(hoist.hoisted(function))(x, y)
    assert leaves(found) == leaves(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_rows_and_loops_can_be_left_as_they_are():
    def function(x):
        def turn(total, row):
            return total + jnp.exp(x).sum() * row, None

        return lax.scan(turn, jnp.float32(0), jax.ops.segment_sum(x, jnp.array(PARENTS), 5))[0]

    x = jnp.arange(6.0)
    whole, part = (set(names(jax.make_jaxpr(hoist.hoisted(function, how))(x).jaxpr)) for how in (True, False))
    assert "scatter-add" in part and "scatter-add" not in whole
    for how, is_inside in ((True, False), (False, True)):
        traced = jax.make_jaxpr(hoist.hoisted(function, how))(x)
        [loop] = [equation for equation in traced.jaxpr.eqns if equation.primitive.name == "scan"]
        assert ("exp" in set(names(loop.params["jaxpr"].jaxpr))) == is_inside
        np.testing.assert_allclose(hoist.hoisted(function, how)(x), function(x), rtol=1e-6)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_loop_that_some_leave_sooner_ends_for_each_in_its_turn(is_whole):
    def function(x):  # [3], each halved until it is small
        return jax.vmap(lambda x: lax.while_loop(lambda x: x > 1.0, lambda x: x / 2 + weights[0] * 0, x))(x)

    weights, x = jnp.arange(3.0), jnp.array([3.0, 0.5, 100.0])
    expected = np.array([0.75, 0.5, 0.78125], np.float32)
    np.testing.assert_array_equal(jax.jit(hoist.hoisted(function, is_whole))(x), expected)
    both = jax.jit(jax.vmap(hoist.hoisted(function, is_whole)))(jnp.stack([x, x[::-1]]))
    np.testing.assert_array_equal(both, [expected, expected[::-1]])


def test_what_says_something_says_it_in_every_turn():
    said = []

    def function(x):
        def turn(i, x):
            jax.debug.callback(lambda: said.append(1))
            return x + 1

        return lax.fori_loop(0, 3, turn, x)

    assert jax.jit(hoist.hoisted(function))(1.0) == 4.0
    jax.effects_barrier()
    assert len(said) == 3


@pytest.mark.parametrize("how", [lambda draw: draw(), lambda draw: lax.fori_loop(0, 2, lambda *_: draw(), jnp.ones(3))])
def test_what_draws_without_a_key_draws_in_every_turn(how):
    draw = lambda: lax.rng_uniform(0.0, 1.0, (3,))  # noqa: E731
    function = lambda x: lax.scan(lambda x, _: (x, how(draw)), x, None, length=2)[1]  # noqa: E731
    one, other = jax.jit(hoist.hoisted(function))(1.0)
    assert not np.array_equal(one, other)


def test_large_things_are_not_made_before_a_loop():
    def function(x):
        return lax.fori_loop(0, 3, lambda i, x: x + jnp.cos(jnp.full(hoist.LARGEST + 1, 2.0))[:2], x)

    traced = jax.make_jaxpr(hoist.hoisted(function))(jnp.ones(2))
    [loop] = [equation for equation in traced.jaxpr.eqns if equation.primitive.name in ("scan", "while")]
    inner = loop.params["jaxpr" if loop.primitive.name == "scan" else "body_jaxpr"]
    assert "cos" in list(names(inner.jaxpr))


def test_it_can_be_differentiated(given):
    x, y, _ = given
    function = lambda x: jnp.sum(jnp.tanh(jax.ops.segment_sum(x, jnp.array(PARENTS), 5)) ** 2)  # noqa: E731
    np.testing.assert_allclose(jax.grad(hoist.hoisted(function))(x), jax.grad(function)(x), rtol=1e-6)
