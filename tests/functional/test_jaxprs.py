import jax
import jax.numpy as jnp

from jaxrl.functional import jaxprs


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
