"""Tensors and arrays on the same memory: nobody writes into what another still reads."""

import gc

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


@pytest.mark.parametrize("keep", [lambda x: x, lambda x: x[2:].T, lambda x: jax.device_put(dlpack.hand_over(x))])
def test_memory_is_taken_again_only_when_nobody_looks_at_it(keep):
    def copied(number):
        copy = dlpack.patched(np.full((7, 16), number, np.float32), np.zeros((7, 16), np.float32), [])
        where.append(copy.ctypes.data)
        return copy

    where = []
    kept = [keep(copied(number)) for number in range(20)]
    assert all((np.asarray(each) == number).all() for number, each in enumerate(kept))
    copied(-1)
    assert where[20] not in where[:20]
    assert all((np.asarray(each) == number).all() for number, each in enumerate(kept))
    del kept
    gc.collect()  # JAX lets go of what it held when it is called again
    copied(-2)
    copied(-3)
    assert where[21:] == [where[0], where[0]]


@pytest.mark.torch
def test_memory_that_tensors_look_at_is_not_taken_again():
    import torch

    kept = [torch.from_numpy(dlpack.patched(np.full((5, 16), n, np.float32), np.zeros((5, 16)), [])) for n in range(20)]
    views = [tensor[1:].T for tensor in kept]
    del kept
    dlpack.patched(np.full((5, 16), -1, np.float32), np.zeros((5, 16)), [])
    assert all((view == number).all() for number, view in enumerate(views))
