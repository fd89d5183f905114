"""What functions compute, against counts by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxrl.envs import wrappers
from jaxrl.host import costs


def test_a_product_is_two_operations_for_each_multiply_add():
    cost = costs.of(lambda a, b: a @ b, jnp.ones((8, 16)), jnp.ones((16, 4)))
    moved = 4 * (8 * 16 + 16 * 4 + 8 * 4)
    assert cost == (2 * 8 * 16 * 4, 0, moved)


def test_a_loop_counts_as_often_as_it_turns_also_in_a_loop():
    def turns(x, w):
        inner = lambda x, _: (jnp.tanh(x @ w), None)  # noqa: E731
        outer = lambda x, _: (jax.lax.scan(inner, x, None, length=5)[0], None)  # noqa: E731
        return jax.lax.scan(outer, x, None, length=3)[0]

    cost = costs.of(turns, jnp.ones((8, 16)), jnp.ones((16, 16)))
    assert cost.products == 15 * 2 * 8 * 16 * 16 and cost.others == 15 * 8 * 16


def test_a_gradient_through_two_layers_costs_five_products():
    def loss(weights, x):
        return jnp.sum(jnp.square(jax.nn.relu(x @ weights[0]) @ weights[1]))

    weights = jnp.ones((16, 16)), jnp.ones((16, 16))
    cost = costs.of(jax.grad(loss), weights, jnp.ones((8, 16)))  # two forward, two to the weights, one to the input
    assert cost.products == 5 * 2 * 8 * 16 * 16


def test_a_convolution_counts_its_kernel_at_every_place():
    module, image = nn.Conv(8, (3, 3), padding="VALID"), jnp.ones((2, 10, 10, 3))
    params = module.init(jax.random.key(0), image)
    assert costs.of(module.apply, params, image).products == 2 * (2 * 8 * 8 * 8) * (3 * 3 * 3)


def test_of_branches_the_cheapest_counts():
    def now_and_then(flag, x):
        return jax.lax.cond(flag, lambda: x @ x @ x, lambda: x)

    assert costs.of(now_and_then, jnp.bool_(True), jnp.ones((4, 4))).products == 0


def test_a_loop_that_ends_itself_is_what_happens_now_and_then_and_another_counts_once():
    def turns(again, x):
        return jax.lax.while_loop(lambda state: state[0], lambda state: (again(state[1]), state[1] @ x), (True, x))[1]

    once = lambda x: costs.of(functools.partial(turns, lambda y: y[0, 0] < 9), x).products  # noqa: E731
    never = lambda x: costs.of(functools.partial(turns, lambda y: False), x).products  # noqa: E731
    x = jnp.ones((4, 4))
    assert once(x) == 2 * 4**3 and never(x) == 0
    drawn = functools.partial(wrappers.sometimes, jnp.bool_(True), lambda x: x @ x)
    assert costs.of(drawn, x).products == costs.of(jax.vmap(drawn), jnp.ones((2, 4, 4))).products == 0


def test_what_only_moves_numbers_computes_none():
    cost = costs.of(lambda x: jnp.concatenate([x.T, x.reshape(4, 2)], axis=1), jnp.ones((2, 4)))
    assert cost.products == cost.others == 0 and cost.bytes >= 4 * (8 + 8 + 16)


@pytest.mark.parametrize("axis", [None, 0])
def test_a_sum_computes_as_many_as_go_in(axis):
    assert costs.of(lambda x: jnp.sum(x, axis), jnp.ones((5, 7))).others == 35


def test_what_no_result_needs_costs_nothing():
    def function(x, w):
        step = lambda carry, _: ((jnp.tanh(carry[0]), carry[1] @ w), None)  # noqa: E731
        return jax.lax.scan(step, (x, x), None, length=3)[0][0]

    cost = costs.of(function, jnp.ones((8, 16)), jnp.ones((16, 16)))
    assert cost.products == 0 and cost.others == 3 * 8 * 16
