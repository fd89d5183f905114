"""The smaller and the larger of two, and whose gradient is whose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import extrema

X = np.float32([-2.0, -1.0, 0.0, 1.0, 3.0])
Y = np.float32([-1.0, -1.0, 2.0, 0.5, 3.0])


@pytest.mark.parametrize(("ours", "numpys"), [(extrema.smaller, np.minimum), (extrema.larger, np.maximum)])
def test_values_are_numpys_and_nan_comes_through(ours, numpys):
    np.testing.assert_array_equal(ours(X, Y), numpys(X, Y))
    np.testing.assert_array_equal(ours(X, 0.5), numpys(X, 0.5))
    with jax.debug_nans(False):
        assert np.isnan(ours(jnp.nan, 1.0)) and np.isnan(ours(1.0, jnp.nan))
        assert np.isnan(extrema.clip(jnp.nan, -1.0, 1.0))


def test_gradient_goes_to_the_one_that_was_chosen_and_the_first_of_equals():
    slopes = jax.vmap(jax.grad(extrema.smaller, argnums=(0, 1)))(X, Y)
    np.testing.assert_array_equal(slopes, [[1, 1, 1, 0, 1], [0, 0, 0, 1, 0]])
    slopes = jax.vmap(jax.grad(extrema.larger, argnums=(0, 1)))(X, Y)
    np.testing.assert_array_equal(slopes, [[0, 1, 0, 1, 1], [1, 0, 1, 0, 0]])


def test_clip_has_slope_one_up_to_its_edges_and_none_beyond():
    slope = jax.vmap(jax.grad(lambda x: extrema.clip(x, -1.0, 1.0)))
    np.testing.assert_array_equal(slope(X), [0, 1, 1, 1, 0])
    # The edges may learn too: they are the hyperparameters of a vmap.
    np.testing.assert_array_equal(jax.grad(extrema.clip, argnums=(0, 1, 2))(5.0, -1.0, 1.0), [0, 0, 1])


def test_wide_and_narrow_broadcast_as_everywhere():
    wide, narrow = jnp.zeros((2, 3)), jnp.arange(3.0)
    with jax.numpy_rank_promotion("allow"):
        grads = jax.grad(lambda x, y: jnp.sum(extrema.smaller(x, y)), argnums=(0, 1))(wide, narrow - 1)
    np.testing.assert_array_equal(grads[0], [[0, 1, 1]] * 2)
    np.testing.assert_array_equal(grads[1], [2, 0, 0])
