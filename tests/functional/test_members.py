"""Members in turn: jax.vmap with the bits of each member alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import members


def learn(params, x, rate):
    """A few steps of a network, whose sums a batch would run in another order."""

    def step(params, _):
        loss = lambda params: jnp.mean(jnp.tanh(jnp.tanh(x @ params["in"]) @ params["out"]) ** 2)  # noqa: E731
        slope = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, slope), None

    return jax.lax.scan(step, params, None, 3)[0], jnp.sum(x)


@pytest.fixture(scope="module")
def arguments():
    key = jax.random.split(jax.random.key(0), 3)
    params = {"in": jax.random.normal(key[0], (4, 9, 33)), "out": jax.random.normal(key[1], (4, 33, 5))}
    return params, jax.random.normal(key[2], (257, 9)), jnp.array([0.1, 0.2, 0.3, 0.4])


def same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def test_each_member_has_the_bits_it_has_alone(arguments):
    params, x, rate = arguments
    together = jax.jit(jax.vmap(members.in_turn(learn), in_axes=(0, None, 0)))(params, x, rate)
    alone = jax.jit(learn)
    for i in range(4):
        same_bits(jax.tree.map(lambda leaf: leaf[i], together), alone(jax.tree.map(lambda p: p[i], params), x, rate[i]))  # noqa: B023


def test_members_of_members_too(arguments):
    params, x, rate = arguments
    over_rates = jax.vmap(members.in_turn(learn), in_axes=(None, None, 0))
    together = jax.jit(jax.vmap(over_rates, in_axes=(0, None, None)))(params, x, rate)
    alone = jax.jit(learn)
    for i, j in ((0, 3), (2, 1)):
        same_bits(
            jax.tree.map(lambda leaf: leaf[i, j], together),  # noqa: B023
            alone(jax.tree.map(lambda p: p[i], params), x, rate[j]),  # noqa: B023
        )


def test_keys_and_whole_arguments_pass(arguments):
    draw = members.in_turn(lambda key, scale: {"noise": scale * jax.random.normal(key, (3,)), "next": key})
    keys = jax.random.split(jax.random.key(1), 2)
    out = jax.vmap(draw, in_axes=(0, None))(keys, 2)
    same_bits(out["noise"][1], 2 * jax.random.normal(keys[1], (3,)))
    assert jax.dtypes.issubdtype(out["next"].dtype, jax.dtypes.prng_key)


def test_unmapped_it_is_the_function(arguments):
    params, x, rate = arguments
    one = jax.tree.map(lambda p: p[0], params)
    same_bits(jax.jit(members.in_turn(learn))(one, x, rate[0]), jax.jit(learn)(one, x, rate[0]))
