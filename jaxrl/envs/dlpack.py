"""Tensors of torch and arrays of JAX on the same memory, where nobody can write into what another still reads.

Simulators reuse their buffers, and JAX reads later than it says: an alias of such a buffer changes under a computation
that waits in a queue, and `from_dlpack(copy=True)` still is one where the memory is aligned
(https://github.com/NVIDIA/DALI/issues/5617 is this mistake in the wild). So torch makes the one copy that there is,
on its own stream, before the simulator goes on, and JAX gets that copy for itself.

torch is imported inside the functions: it is an extra, and Isaac Gym wants to be imported before it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, PyTree


def own(tensor, dtype=None):
    """A copy that nobody else knows of, detached and contiguous, in a type that JAX keeps.

    Args:
        tensor: a torch.Tensor of any layout.
        dtype: of torch; None takes float32 for every kind of float and int32 for every kind of integer, but leaves
            bool and uint8. JAX would narrow 64 bits silently, as it likes.
    """
    import torch

    if dtype is None:
        dtype = torch.float32 if tensor.is_floating_point() else torch.int32
        dtype = tensor.dtype if tensor.dtype in (torch.bool, torch.uint8) else dtype
    if tensor.dtype == dtype:  # clone is several microseconds faster than to(copy=True)
        return tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensor.detach().to(dtype, memory_format=torch.contiguous_format)


def hand_over(tensor) -> Array | np.ndarray:
    """A tensor from `own` as JAX takes it with the least ado, without a copy; nobody may write into it again.

    On the CPU it is NumPy's view: DLPack takes 30 microseconds for each array, and what takes the views over (jit,
    device_put) keeps their memory as well. Elsewhere it is an array of JAX.
    """
    if tensor.is_cuda and _has_gpu():
        return to_jax(tensor)
    view = (tensor.cpu() if tensor.is_cuda else tensor).numpy()
    view.flags.writeable = False
    return view


def to_jax(tensor) -> Array:
    """A tensor from `own` as an array of JAX on its device; copied only on a CPU, where not aligned to 64 bytes."""
    return jnp.from_dlpack(tensor)


def to_torch(array, device):
    """An array of JAX or NumPy as a torch.Tensor on `device`, in memory of its own.

    Args:
        array: on one device, or shared out over several.
        device: of torch.
    """
    import torch

    if torch.device(device).type != "cpu" and isinstance(array, jax.Array) and len(array.sharding.device_set) == 1:
        return torch.from_dlpack(array).to(device, copy=True)
    return torch.from_numpy(np.array(array)).to(device)  # NumPy waits for what is not computed yet


def where(flags):
    """The indices, int64 [M], at which a tensor [N] of bool holds."""
    import torch

    if flags.is_cuda:
        return flags.nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(flags.numpy()))


def pack(tree: PyTree) -> np.ndarray:
    """uint8 [B], the bytes of all numbers, arrays and tensors of a pytree in order; no type narrows them on the way.

    Raises:
        TypeError: there is something else in it, such as a text.
    """
    parts = [_array(leaf).reshape(-1).view(np.uint8) for leaf in jax.tree.leaves(tree)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unpack(packed, like: PyTree) -> PyTree:
    """What was packed, in the structure, types and shapes of `like`.

    Raises:
        ValueError: it has another size.
    """
    data, end = np.asarray(packed).tobytes(), 0

    def take(leaf):
        nonlocal end
        array = _array(leaf)
        start, end = end, end + array.nbytes
        value = np.frombuffer(data[start:end], array.dtype).reshape(array.shape).copy()
        if isinstance(leaf, bool | int | float):
            return type(leaf)(value.item())
        return value if isinstance(leaf, np.ndarray | np.generic) else _tensor(value, leaf)

    size = sum(_array(leaf).nbytes for leaf in jax.tree.leaves(like))
    if size != len(data):
        raise ValueError(f"it has {len(data)} bytes, {size} are due")
    return jax.tree.map(take, like)


def _array(leaf):
    """A number, array or tensor as an array of NumPy; a tensor's bytes, for NumPy does not have all of its types."""
    if isinstance(leaf, bool | int | float | np.ndarray | np.generic):
        array = np.asarray(leaf)
        if array.dtype != object:
            return np.ascontiguousarray(array)
    import torch

    if isinstance(leaf, torch.Tensor):
        return own(leaf, leaf.dtype).cpu().reshape(-1).view(torch.uint8).numpy()
    raise TypeError(f"{type(leaf).__name__} {str(leaf)[:40]!r} is no number, array or tensor")


def _tensor(value, like):
    import torch

    return torch.from_numpy(value).view(like.dtype).reshape(like.shape).to(like.device)


@functools.cache
def _has_gpu():
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False
