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
