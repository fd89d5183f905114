import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import jaxprs
from tests.functional.functions import FUNCTIONS, names, some_rows


def test_a_scan_tells_its_constants_from_its_carry():
    def function(weights, bias, carry, rows):
        step = lambda carry, row: ((carry[0] @ weights + bias, carry[1] + row.sum(), carry[2] + 1), row[0])  # noqa: E731
        return jax.lax.scan(step, carry, rows)

    closed = jax.make_jaxpr(function)(
        jnp.ones((2, 2)), jnp.ones(2), (jnp.ones(2), jnp.zeros(()), jnp.zeros(3)), jnp.ones((5, 4))
    )
    [scan] = [equation for equation in closed.jaxpr.eqns if equation.primitive.name == "scan"]
    num_consts, num_carry = jaxprs.of_scan(scan.params)
    shapes = [variable.aval.shape for variable in scan.invars]
    assert sorted(shapes[:num_consts]) == [(2,), (2, 2)]
    assert shapes[num_consts : num_consts + num_carry] == [(2,), (), (3,)]
    assert shapes[num_consts + num_carry :] == [(5, 4)]


def loose(scale):
    """A function with constants of its own, two of which only what nobody asks for takes, in a loop within."""
    weights, unused, doubly = jnp.full((3, 3), 0.5), jnp.ones((5, 7)), jnp.ones((11, 13))

    def function(x, ignored):
        def step(carry, _):
            kept, lost = carry
            return (scale * (kept @ weights), lost + unused.sum()), doubly.sum() + kept.sum()

        (kept, _), _ = jax.lax.scan(step, (x, jnp.zeros(())), None, length=4)
        return {"kept": kept, "double": 2 * kept}

    return function


def inner_shapes(jaxpr):
    """Of all operands of all loops, within and without."""
    shapes = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("scan", "while"):
            shapes |= {variable.aval.shape for variable in equation.invars}
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            shapes |= inner_shapes(inner) if hasattr(inner, "eqns") else set()
    return shapes


def test_what_no_result_needs_is_gone():
    x = jnp.arange(3.0)
    function = loose(2.0)
    assert {(5, 7), (11, 13)} <= inner_shapes(jax.make_jaxpr(function)(x, x).jaxpr)
    traced = jaxprs.live(function, x, x)
    assert inner_shapes(traced.closed.jaxpr) >= {(3, 3)}
    assert not inner_shapes(traced.closed.jaxpr) & {(5, 7), (11, 13)}
    assert [constant.shape for constant in traced.closed.consts] == [(3, 3)]


def test_what_is_left_computes_the_same():
    x = jnp.arange(3.0)
    function = loose(2.0)
    traced = jaxprs.live(function, x, x)
    for argument in (x, x + 1):
        # Each step makes every number the sum of all three, twice times a half of it.
        expected = {"kept": 27 * jnp.sum(argument) * jnp.ones(3), "double": 54 * jnp.sum(argument) * jnp.ones(3)}
        found = traced(argument, x)
        assert jax.tree.structure(found) == jax.tree.structure(expected) == jax.tree.structure(traced.shapes)
        for name in expected:
            assert jnp.allclose(found[name], expected[name])


def test_a_trace_can_be_mapped_and_closes_over_what_is_traced():
    x = jnp.arange(3.0)

    def run(scale, x):
        traced = jaxprs.live(loose(scale), x, x)
        return jax.lax.fori_loop(0, 2, lambda _, x: traced(x, x)["kept"], x)

    scales = jnp.array([1.0, 2.0])
    found = jax.jit(jax.vmap(run, in_axes=(0, None)))(scales, x)
    for row, scale in zip(found, scales, strict=True):
        assert jnp.allclose(row, run(scale, x))
    total = lambda scale: jaxprs.live(loose(scale), x, x)(x, x)["kept"].sum()  # noqa: E731
    assert jnp.allclose(jax.grad(total)(2.0), 4 * 81 * x.sum() / 2)  # of 81 (scale / 2)⁴ times the sum of x


def test_what_a_step_reads_of_its_state_be_it_in_the_end():
    state = {
        "seen": jnp.zeros(3),  # the result
        "behind": jnp.zeros(3),  # goes to `seen`, two steps before it is told
        "looped": jnp.zeros(()),  # through a loop, to `behind`
        "counter": jnp.zeros((), int),  # only to itself
        "derived": jnp.zeros(2),  # written and never read
        "swapped": jnp.zeros(()),  # to `other`, which leads back and nowhere else
        "other": jnp.zeros(()),
    }

    def step(state, action):
        total, _ = jax.lax.scan(lambda x, _: (x + state["looped"], None), state["behind"], None, length=2)
        after = {
            "seen": state["behind"] * 2,
            "behind": total,
            "looped": state["looped"] + action,
            "counter": state["counter"] + 1,
            "derived": state["seen"][:2] + action,
            "swapped": state["other"],
            "other": state["swapped"] + state["seen"].sum(),
        }
        return after, state["seen"] + action

    read = jaxprs.carried(jax.jit(step), state, jnp.zeros(()))
    assert dict(zip(sorted(state), read, strict=True)) == {
        "seen": True,
        "behind": True,
        "looped": True,
        "counter": False,
        "derived": False,
        "swapped": False,
        "other": False,
    }


def once(function, *arguments):
    return jaxprs.once(jaxprs.live(function, *arguments))


def done(function, *arguments):
    """How often each operation is done."""
    return collections.Counter(names(once(function, *arguments).closed.jaxpr))


def twice(x):
    return jnp.sin(2.0 * x) + jnp.sin(2.0 * x)


X = jnp.arange(3.0)
TWICE = {
    "by itself": (twice, 1),
    "in a function": (lambda x: jax.jit(twice)(x), 1),
    "in a function called twice": (lambda x: jax.jit(twice)(x) * jax.jit(twice)(x), 1),
    "in a scan": (lambda x: jax.lax.scan(lambda c, _: (twice(c), c), x, None, length=2), 1),
    "in a loop": (lambda x: jax.lax.while_loop(lambda c: twice(c).sum() > 1, lambda c: twice(c), x), 2),
    "in branches": (lambda x: jax.lax.cond(x[0] > 0, twice, lambda x: x * twice(x), x), 2),
    "in what is mapped in its own way": (lambda x: jax.custom_batching.sequential_vmap(twice)(x), 1),
    "with keys": (lambda x: x + jax.random.normal(jax.random.key(0)) + jax.random.normal(jax.random.key(0)), 0),
}
OTHER = {
    "a number of another sign": (lambda x: (x * 0.0, x * -0.0), "mul"),
    "a number of another type": (lambda x: (jnp.full(3, 1), jnp.full(3, True), jnp.full(3, 1.0)), "broadcast_in_dim"),
    "another option": (lambda x: (jnp.sum(x[None], 0), jnp.sum(x[None], 1)), "reduce_sum"),
    "another order": (lambda x: (x - x[::-1], x[::-1] - x), "sub"),
    "another key": (lambda x: [jax.random.bits(jax.random.key(i)) for i in range(2)], "random_bits"),
}


@pytest.mark.parametrize("name", TWICE)
def test_nothing_is_done_twice(name):
    function, times = TWICE[name]
    operations = done(function, X)
    assert operations["sin"] == times
    assert operations["random_bits"] == (name == "with keys")
    with jax.debug_key_reuse(False):
        jax.tree.map(np.testing.assert_array_equal, once(function, X)(X), function(X))


@pytest.mark.parametrize("name", OTHER)
def test_what_is_not_the_same_is_done(name):
    function, operation = OTHER[name]
    expected = function(X)
    assert done(function, X)[operation] == len(expected)
    for one, other in zip(once(function, X)(X), expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(jnp.signbit(one.astype(float)), jnp.signbit(other.astype(float)))


def test_a_function_called_with_this_and_that_stays_one():
    inner = jax.jit(twice)
    calls = [
        equation.params["jaxpr"]
        for equation in once(lambda x: inner(x) + inner(x + 1) + inner(x), X).closed.jaxpr.eqns
        if "jaxpr" in equation.params
    ]
    assert len(calls) == 2 and calls[0] is calls[1]


def test_what_says_something_says_it_as_often_as_it_is_asked():
    said = []

    def function(x):
        for _ in range(2):
            jax.debug.callback(lambda x: said.append(float(x)), x.sum())
        return x

    once(function, X)(X)
    jax.effects_barrier()
    assert said == [3.0, 3.0]


def draw():
    return jax.lax.rng_uniform(0.0, 1.0, (3,))


@jax.jit
def draw_in_a_loop():
    turn = lambda x, _: (jax.lax.cond(x[0] > 1.0, jnp.cos, lambda x: draw(), x), None)  # noqa: E731
    return jax.lax.scan(turn, X, length=2)[0]


DRAWS = {"drawn": draw, "in a function": jax.jit(draw), "in a loop of a function": draw_in_a_loop}


@pytest.mark.parametrize("where", DRAWS)
def test_what_draws_without_a_key_draws_as_often_as_it_is_asked(where):
    one, other = jax.jit(once(lambda x: [DRAWS[where]() + x for _ in range(2)], X))(X)
    assert not np.array_equal(one, other)


def test_a_result_that_the_first_of_two_drops_is_there_for_the_second():
    def function(x):
        loop = lambda: jax.lax.scan(lambda c, _: (c + x, c * 2), x, None, length=2)  # noqa: E731
        return loop()[0], loop()

    for one, other in zip(*map(jax.tree.leaves, (once(function, X)(X), function(X))), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_done_once_is_what_it_was(name):
    function, row = FUNCTIONS[name], [x[3] for x in some_rows()]
    expected, found = jax.jit(function)(*row), once(function, *row)(*row)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_a_cpu_is_given_it_once_and_others_as_it_was(monkeypatch):
    number = lambda: list(names(jaxprs.ready(twice, X).closed.jaxpr)).count("sin")  # noqa: E731
    assert number() == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert number() == 2


def test_keys_of_the_same_words_stay_two():
    words = np.array([1, 2], np.uint32)

    def function(words):  # as environments do that keep a key as its words; two uses of one JAX would not let pass
        one, other = (jax.random.wrap_key_data(words) for _ in range(2))
        return jax.random.key_data(jax.random.split(one)), jax.random.normal(other, (2,))

    found = jax.jit(jaxprs.once(jaxprs.live(function, words)))(words)
    jax.tree.map(np.testing.assert_array_equal, found, function(words))
