"""What each device computes for its own share is what one device computes for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxrl.functional import shares
from tests.host import hlo

STEPS, ROWS = 3, 16


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("any",), axis_types=(AxisType.Auto,))


def walk(params, x, drive):
    """x [N, 2] and drive [T, N, 2] → x after T steps, and all of them [T, N, 2]: a recurrent net with two weights."""

    def one_step(x, drive):
        x = jnp.tanh(x @ params["matrix"] + drive * params["scale"])
        return x, x

    return jax.lax.scan(one_step, x, drive)


def loss(function, params, x, drive):
    last, seen = function(params, x, drive)
    return jnp.mean(jnp.square(last)) + jnp.mean(seen)


def inputs(rows=ROWS):
    random = np.random.default_rng(0)
    params = {"matrix": random.normal(size=(2, 2)), "scale": random.normal(size=())}
    numbers = params, random.normal(size=(rows, 2)), random.normal(size=(STEPS, rows, 2))
    return jax.tree.map(jnp.float32, numbers)


LOCAL = shares.locally(walk, (None, 0, 1), (0, 1))


def shared(mesh, function, arguments):
    """Compiled for the mesh, with the rows split over it, and its result."""
    params, x, drive = arguments
    by = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))  # noqa: E731
    arguments = jax.device_put((params, x, drive), (by(), by("any"), by(None, "any")))
    with jax.set_mesh(mesh):
        compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, compiled(*arguments)


def test_shares_put_together_are_the_whole_and_nothing_crosses(mesh):
    compiled, got = shared(mesh, LOCAL, inputs())
    assert hlo.collectives(compiled.as_text()) == []
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(walk(*inputs())), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert got[1].sharding.shard_shape(got[1].shape) == (STEPS, ROWS // 8, 2)


def test_a_gradient_is_one_sum_behind_all_steps(mesh):
    gradient = lambda function: jax.grad(lambda *arguments: loss(function, *arguments))  # noqa: E731
    compiled, got = shared(mesh, gradient(LOCAL), inputs())
    expected = gradient(walk)(*inputs())
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-7)
    [crossing] = hlo.collectives(compiled.as_text())
    assert (crossing.kind, crossing.sizes, crossing.loops) == ("all-reduce", (5,), ())
    # Left to itself, the compiler sums at every step.
    compiled, _ = shared(mesh, gradient(walk), inputs())
    assert any(each.loops for each in hlo.collectives(compiled.as_text()))


def test_rows_that_cannot_be_shared_evenly_are_left_to_the_compiler(mesh):
    with jax.set_mesh(mesh):
        got = jax.jit(LOCAL)(*inputs(rows=6))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(walk(*inputs(rows=6))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_without_a_mesh_nothing_changes():
    plain, marked = (jax.make_jaxpr(function)(*inputs()) for function in (walk, LOCAL))
    assert str(plain) == str(marked)


def test_within_a_share_nothing_is_shared_again(mesh):
    """As whole runs on each device of a sweep: each has all rows of its own."""
    by = PartitionSpec("any")
    runs = jax.tree.map(lambda x: jnp.stack([x + i for i in range(8)]), inputs())
    one = lambda *run: jax.tree.map(lambda x: x[None], LOCAL(*jax.tree.map(lambda x: x[0], run)))  # noqa: E731
    each = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=by, out_specs=by, check_vma=False))
    np.testing.assert_allclose(each(*runs)[0], jax.vmap(walk)(*runs)[0], rtol=1e-6, atol=1e-6)
    assert hlo.collectives(each.lower(*runs).compile().as_text()) == []


def test_runs_that_are_mapped_share_all_devices(mesh):
    runs = jax.tree.map(lambda x: jnp.stack([x, x + 1]), inputs())
    with jax.set_mesh(mesh):
        got = jax.jit(jax.vmap(LOCAL))(*runs)
    np.testing.assert_allclose(got[0], jax.vmap(walk)(*runs)[0], rtol=1e-6, atol=1e-6)
