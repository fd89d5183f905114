"""The product of a dense layer, whose gradient takes another way on CPUs, against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import dense

NARROWING, LARGE, WIDENING = (24, 20, 6), (4096, 128, 8), (24, 6, 20)  # R, I, O; the second is too much for a cache


def draw(shape):
    rows, features_in, features_out = shape
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((rows, features_in), (features_in, features_out), (rows, features_out), (features_in, features_out))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("shape", [NARROWING, LARGE, WIDENING])
def test_product_and_its_gradients_are_those_of_sums_in_float64(shape):
    x, kernel, slope, _ = draw(shape)
    found, pull = jax.vjp(dense.product, x, kernel)
    by_x, by_kernel = pull(slope)
    x, kernel, slope = (np.asarray(each, np.float64) for each in (x, kernel, slope))
    np.testing.assert_allclose(found, x @ kernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_x, slope @ kernel.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_kernel, x.T @ slope, rtol=1e-4, atol=2e-3)


def test_large_features_are_those_that_do_not_fit():
    rows, features_in, _ = LARGE
    assert 4 * rows * features_in > dense.CACHED >= 4 * NARROWING[0] * NARROWING[1]


@pytest.mark.parametrize("shape", [NARROWING, LARGE, WIDENING])
def test_it_can_be_differentiated_forwards_and_twice(shape):
    x, kernel, slope, direction = draw(shape)

    def loss(kernel, product):  # 1/2 Σ (x W g ᵀ)²: what is taken along a direction has a closed form
        return 0.5 * jnp.mean(jnp.square(product(x, kernel) * slope))

    def along(product):
        return jax.jvp(jax.grad(lambda kernel: loss(kernel, product)), (kernel,), (direction,))[1]

    x64, slope64, direction64 = (np.asarray(each, np.float64) for each in (x, slope, direction))
    expected = x64.T @ (np.square(slope64) * (x64 @ direction64)) / slope64.size
    np.testing.assert_allclose(along(dense.product), expected, rtol=1e-3, atol=1e-4)


def test_the_slope_of_features_that_nobody_asks_for_is_not_computed():
    x, kernel, slope, _ = draw(NARROWING)

    def products(*arguments):
        gradient = jax.grad(lambda *args: jnp.sum(jnp.tanh(dense.product(*args)) * slope), arguments)
        return str(jax.make_jaxpr(gradient)(x, kernel)).count("dot_general")

    assert [products(1), products(0), products(0, 1)] == [2, 2, 3]


def test_several_kernels_at_once_are_each_alone():
    x, kernel, slope, other = draw(NARROWING)
    gradient = jax.grad(lambda kernel: jnp.sum(dense.product(x, kernel) * slope**2))
    together = jax.vmap(gradient)(jnp.stack([kernel, other]))
    np.testing.assert_allclose(together, jnp.stack([gradient(kernel), gradient(other)]), rtol=1e-5, atol=1e-5)


def test_features_may_have_any_leading_axes():
    x, kernel, *_ = draw(NARROWING)
    folded = x.reshape(4, 3, 2, -1)
    found = dense.for_flax(folded, kernel, (((3,), (0,)), ((), ())))
    np.testing.assert_allclose(found, np.einsum("abci,io->abco", folded, kernel), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices keep the product as it is")
def test_no_product_sums_over_turned_features_on_a_cpu():
    x, kernel, slope, _ = draw(NARROWING)
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(jnp.tanh(dense.product(x, kernel)) * slope)))
    products = [line for line in gradient.lower(kernel).compile().as_text().splitlines() if " dot(" in line]
    assert products and not any("lhs_contracting_dims={0}" in line for line in products)
