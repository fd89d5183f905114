"""The convolution whose gradient is a matrix product on CPUs, against XLA's own and against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrl.networks.convolution import convolve, unfolded

CASES = [
    ((3, 10, 10, 4), (3, 3, 4, 5), (1, 1), "VALID"),
    ((2, 9, 7, 3), (4, 2, 3, 2), (2, 3), "VALID"),
    ((2, 9, 7, 3), (3, 3, 3, 2), (2, 2), "SAME"),
    ((2, 8, 8, 1), (3, 2, 1, 2), (1, 2), ((2, 0), (1, 3))),
    ((2, 12, 3), (5, 3, 2), (2,), "SAME"),
    ((2, 12, 3), (4, 3, 2), (4,), "VALID"),
]


def native(x, kernel, strides, padding):
    numbers = ("NHC", "HIO", "NHC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)


@pytest.mark.parametrize(("shape", "kernel", "strides", "padding"), CASES)
def test_values_and_gradients_are_those_of_the_native_convolution(shape, kernel, strides, padding):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), kernel)
    expected, pull = jax.vjp(lambda x, kernel: native(x, kernel, strides, padding), x, kernel)
    slope = jax.random.normal(jax.random.key(2), expected.shape)
    np.testing.assert_allclose(unfolded(x, kernel, strides, padding), expected, rtol=1e-5, atol=1e-5)
    found, pull_found = jax.vjp(lambda x, kernel: convolve(x, kernel, strides, padding), x, kernel)
    np.testing.assert_array_equal(found, expected)
    for ours, theirs in zip(pull_found(slope), pull(slope), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_kernel_of_two_by_two_summed_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    # Top left: 0·1 + 1·2 + 3·3 + 4·4 = 27; each step to the right adds 10, each down 30.
    expected = np.array([[27.0, 37.0], [57.0, 67.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(unfolded(x, kernel, (1, 1), "VALID"), expected)
    slope = jax.grad(lambda kernel: jnp.sum(convolve(x, kernel, (1, 1), "VALID")))(kernel)
    # Each weight's slope is the sum of the four numbers that it meets.
    np.testing.assert_array_equal(slope.reshape(2, 2), [[8.0, 12.0], [20.0, 24.0]])


def test_several_kernels_at_once():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernels = jax.random.normal(jax.random.key(1), (4, 3, 3, 3, 2))
    slope = jax.grad(lambda kernel: jnp.sum(jnp.square(convolve(x, kernel, (1, 1), "SAME"))))
    together = jax.vmap(slope)(kernels)
    np.testing.assert_allclose(together, jnp.stack([slope(kernel) for kernel in kernels]), rtol=1e-4, atol=1e-4)
