"""Tensors and arrays on the same memory: nobody writes into what another still reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import dlpack


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16", "int64", "uint8", "bool"])
def test_tensors_become_arrays_that_no_one_writes_into(kind):
    import torch

    wide = (torch.arange(40).reshape(8, 5) % 2).to(getattr(torch, kind))
    for view in (wide, wide.T, wide[::2], wide[:, 1:3], wide[:, :1].expand(8, 3), wide[0, 0], wide[:0]):
        expected = view.double().numpy().copy()
        mine = dlpack.own(view)
        array, shown = dlpack.to_jax(mine), dlpack.hand_over(mine)
        placed = jax.device_put(shown)
        assert not array.size or array.unsafe_buffer_pointer() == placed.unsafe_buffer_pointer() == mine.ctypes.data
        before = wide.clone()
        wide.zero_()
        for each in (shown, array, placed):
            np.testing.assert_array_equal(np.asarray(each, np.float64), expected)
            assert each.dtype == {"uint8": jnp.uint8, "bool": bool, "int64": jnp.int32}.get(kind, jnp.float32)
        wide.copy_(before)
        with pytest.raises(ValueError, match="read-only"):
            shown[...] = 0


@pytest.mark.torch
def test_an_array_that_is_still_being_computed_arrives_done():
    import torch

    slow = jax.jit(lambda x: jnp.linalg.matrix_power(x, 9)[:2])
    near = dlpack.bring(slow(jnp.eye(600)), torch.device("cpu"))
    np.testing.assert_array_equal(near, np.eye(600, dtype=np.float32)[:2])
