"""Tensors of torch and arrays of JAX on the same memory, where nobody can write into what another still reads.

Simulators reuse their buffers, and JAX reads later than it says: an alias of such a buffer changes under a computation
that waits in a queue, and `from_dlpack(copy=True)` still is one where the memory is aligned
(https://github.com/NVIDIA/DALI/issues/5617 is this mistake in the wild). So torch makes the one copy that there is,
on its own stream, before the simulator goes on, and JAX gets that copy for itself.

torch is imported inside the functions: it is an extra, and Isaac Gym wants to be imported before it.
"""

import functools
import math
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, PyTree


def near(tensor, dtype=None):
    """A tensor as a step computes with it, perhaps on the same memory: NumPy's view on the CPU, elsewhere a tensor.

    NumPy takes half of torch's time for a few thousand numbers, and both know `a & ~b`, `a ^ b` and `a[rows]`.

    Args:
        tensor: a torch.Tensor of any layout.
        dtype: by its name; None takes float32 for every kind of float and int32 for every kind of integer, but leaves
            bool and uint8. JAX would narrow 64 bits silently, as it likes.
    """
    dtype = _type(tensor.dtype, dtype)
    tensor = tensor.detach() if tensor.requires_grad else tensor
    tensor = tensor if tensor.dtype == dtype else tensor.to(dtype)
    return tensor if tensor.is_cuda else tensor.numpy()


def own(tensor, dtype=None):
    """The same in memory that nobody else knows of, contiguous.

    On the CPU NumPy copies it: torch would wake up threads, which wait by spinning. Where a simulator's own, in another
    process, do so too on as many cores, a step took 7 ms in the place of 0.4.
    """
    view = near(tensor, dtype)
    if isinstance(view, np.ndarray):
        return _copy(view)
    import torch

    return view.clone(memory_format=torch.contiguous_format)


def patched(mine, other, rows):
    """A copy of what is from `own` that has the rows [M] of another, a tensor or from `own`."""
    copy = _copy(mine) if isinstance(mine, np.ndarray) else mine.clone()
    copy[rows] = (other if isinstance(other, np.ndarray) else near(other))[rows]
    return copy


def hand_over(mine) -> Array | np.ndarray:
    """What is from `own`, or computed from what is near, as JAX takes it with the least ado, without a copy.

    Nobody may write into it again. On the CPU it is NumPy's: DLPack takes 30 microseconds for each array, and what
    takes those over (jit, device_put) keeps their memory as well. Elsewhere it is an array of JAX.
    """
    if not isinstance(mine, np.ndarray):
        if _has_gpu():
            return to_jax(mine)
        mine = mine.cpu().numpy()
    mine.flags.writeable = False
    return mine


def to_jax(mine) -> Array:
    """What is from `own` as an array of JAX on its device; copied only on a CPU, where not aligned to 64 bytes."""
    return jnp.from_dlpack(mine)


def tensor(numbers):
    """What is near, or a tensor, as a tensor on the same memory; `hand_over` must not have had it."""
    if not isinstance(numbers, np.ndarray):
        return numbers
    import torch

    return torch.from_numpy(numbers)


def bring(array, device):
    """An array of JAX or NumPy near a simulator: on the CPU NumPy's, elsewhere a tensor; nobody may write into it.

    Args:
        array: on one device, or shared out over several.
        device: torch.device.
    """
    if device.type == "cpu":
        return np.asarray(array)  # waits for what is not computed yet
    import torch

    if isinstance(array, jax.Array) and len(array.sharding.device_set) == 1:
        return torch.from_dlpack(array).to(device)
    return torch.from_numpy(np.array(array)).to(device)


def where(flags):
    """The indices [M] at which what is near, [N] of bool, holds."""
    return flags.nonzero()[0] if isinstance(flags, np.ndarray) else flags.nonzero().flatten()


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
        return leaf.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy()
    raise TypeError(f"{type(leaf).__name__} {str(leaf)[:40]!r} is no number, array or tensor")


def _tensor(value, like):
    import torch

    return torch.from_numpy(value).view(like.dtype).reshape(like.shape).to(like.device)


@functools.cache
def _type(dtype, name):
    """The type of torch of that name; by default that in which JAX gets the numbers of a tensor of `dtype`."""
    import torch

    if name:
        return getattr(torch, name)
    if dtype in (torch.bool, torch.uint8):
        return dtype
    return torch.float32 if dtype.is_floating_point else torch.int32


def _copy(view):
    copy = _shelf(view.shape, view.dtype).take()
    copy[...] = view
    return copy


class _Shelf:
    """Memory for arrays of one shape and type; it begins at a multiple of 64 bytes, so JAX takes it over uncopied.

    Memory that no array looks at any more is taken again: to ask for more takes a fifth of a copy's time.
    """

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        self.pieces = []  # (memory, offset)
        self.lock = threading.Lock()

    def take(self):
        """An array that may be written into until `hand_over` has it."""
        with self.lock:
            for piece in self.pieces:
                if _holders(piece) == _ALONE:
                    return np.ndarray(self.shape, self.dtype, *piece)
            memory = np.empty(math.prod(self.shape) * self.dtype.itemsize + 64, np.uint8)
            piece = memory, -memory.ctypes.data % 64
            if len(self.pieces) < 8:  # more are held by who keeps every step
                self.pieces.append(piece)
            return np.ndarray(self.shape, self.dtype, *piece)


_shelf = functools.cache(_Shelf)


def _holders(piece):
    """How many references there are to its memory: each array's on it, by whatever view, is one."""
    return sys.getrefcount(piece[0])


_ALONE = _holders((object(),))  # what a piece has that nobody holds


@functools.cache
def _has_gpu():
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False
