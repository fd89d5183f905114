"""What is known while a function is traced, worked out then, by numpy.

JAX stages all that is asked for, also of the numbers of a model, which are there from the start: of a step of Brax's
ant that is a third of the equations. XLA would work out a part of it while it compiles, after most of what costs by
the instruction, and leave the rest to every turn of the loop. What is done here never reaches it.

What numpy does to single elements and to their places is the same to the bit. Sums, products and powers are worked out
in double precision, and round once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LARGEST = 4096  # elements; what is larger is made where it is used, and does not become a part of the program


def results(equation, operands: list) -> list[np.ndarray] | None:
    """The results of an equation of a jaxpr; None where they are not known, or left to the compiler.

    Args:
        equation: whichever.
        operands: arrays, known as `is_known` says, and others.
    """
    rule = RULES.get(equation.primitive.name)
    if (
        rule is None
        or not all(map(_is_small, [*equation.invars, *equation.outvars]))
        or not all(map(is_known, operands))
    ):
        return None
    [variable] = equation.outvars
    given = [np.asarray(operand, atom.aval.dtype) for atom, operand in zip(equation.invars, operands, strict=True)]
    with np.errstate(all="ignore"):  # what is not finite is not finite on the device either
        result = rule(equation.params, *given)
    return None if result is None else [np.asarray(result).astype(variable.aval.dtype)]


def is_known(operand) -> bool:
    """Whether it is an array, or a number, whose elements this process can read now."""
    if isinstance(operand, jax.Array):
        return not isinstance(operand, jax.core.Tracer) and operand.is_fully_addressable
    return isinstance(operand, np.ndarray | np.generic | bool | int | float)


def staged(operand):
    """The operand of what is not known, for the compiler: one that is the same all over as a number, which can fuse."""
    if not isinstance(operand, np.ndarray) or operand.size < 2:
        return operand
    first = operand.flat[0]
    is_alike = first == first and operand.tobytes() == first.tobytes() * operand.size  # 0 and -0 are two
    return lax.full(operand.shape, first, operand.dtype) if is_alike else operand


def _is_small(atom) -> bool:
    """Whether numpy has arrays of such elements, and it is not too many."""
    return atom.aval.size <= LARGEST and not jnp.issubdtype(atom.aval.dtype, jax.dtypes.extended)


def _wide(x):
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


# Rules: parameters, operands -> result; None where the device has its own opinion.


def _broadcast_in_dim(params, x):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    lengths = [x.shape[axes.index(axis)] if axis in axes else 1 for axis in range(len(shape))]
    return np.broadcast_to(x.reshape(lengths), shape)


def _convert_element_type(params, x):
    dtype = params["new_dtype"]
    is_cut = jnp.issubdtype(x.dtype, jnp.inexact) and jnp.issubdtype(dtype, jnp.integer)  # what if out of range?
    return None if is_cut else x.astype(dtype)


def _div(params, a, b):
    return a / b if jnp.issubdtype(a.dtype, jnp.inexact) else None


def _dot_general(params, a, b):
    (left, right), (batch_left, batch_right) = params["dimension_numbers"]
    axes_a, axes_b = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for one, other in zip((*left, *batch_left), (*right, *batch_right), strict=True):
        axes_b[other] = axes_a[one]
    free = [axis for axis in axes_a if axis not in (*left, *batch_left)] + [axis for axis in axes_b if axis >= a.ndim]
    return np.einsum(_wide(a), axes_a, _wide(b), axes_b, [*batch_left, *free])


def _gather(params, x, index):
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    if numbers.operand_batching_dims:
        return None
    lengths, sizes, axes = np.array(x.shape), np.array(sizes), list(numbers.start_index_map)
    last = (lengths - sizes)[axes]
    if params["mode"] == lax.GatherScatterMode.CLIP:
        index = np.clip(index, 0, last)
    if ((index < 0) | (index > last)).any():
        return None
    first = np.zeros((*index.shape[:-1], x.ndim), int)
    first[..., axes] = index
    kept = [axis for axis in range(x.ndim) if axis not in numbers.collapsed_slice_dims]
    places = []
    for axis in range(x.ndim):
        lengths = [sizes[axis] if other == axis else 1 for other in kept]
        place = np.arange(sizes[axis]).reshape(lengths) if axis in kept else 0
        places.append(first[..., axis].reshape(*index.shape[:-1], *[1] * len(kept)) + place)
    taken = x[tuple(places)]  # [batch, kept]
    batch = index.ndim - 1
    return np.moveaxis(taken, range(batch, taken.ndim), numbers.offset_dims)


def _iota(params):
    shape, axis = params["shape"], params["dimension"]
    return np.broadcast_to(np.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis)), shape)


def _pad(params, x, filling):
    if any(low < 0 or high < 0 or between for low, high, between in params["padding_config"]):
        return None
    around = [(low, high) for low, high, _ in params["padding_config"]]
    return np.pad(x, around, constant_values=filling) if around else x


def _rem(params, a, b):
    return np.fmod(a, b) if (b != 0).all() else None


def _select_n(params, which, *cases):
    return np.choose(np.broadcast_to(which, cases[0].shape).astype(int), cases)


def _slice(params, x):
    steps = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


RULES: dict[str, Callable] = {
    "abs": lambda params, x: np.abs(x),
    "add": lambda params, a, b: a + b,
    "and": lambda params, a, b: a & b,
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda params, low, x, high: np.clip(x, low, high),
    "concatenate": lambda params, *parts: np.concatenate(parts, params["dimension"]),
    "convert_element_type": _convert_element_type,
    "copy": lambda params, x: x,
    "div": _div,
    "dot_general": _dot_general,
    "eq": lambda params, a, b: a == b,
    "exp": lambda params, x: np.exp(_wide(x)),
    "gather": _gather,
    "ge": lambda params, a, b: a >= b,
    "gt": lambda params, a, b: a > b,
    "iota": _iota,
    "is_finite": lambda params, x: np.isfinite(x),
    "le": lambda params, a, b: a <= b,
    "lt": lambda params, a, b: a < b,
    "max": lambda params, a, b: np.maximum(a, b),
    "min": lambda params, a, b: np.minimum(a, b),
    "mul": lambda params, a, b: a * b,
    "ne": lambda params, a, b: a != b,
    "neg": lambda params, x: -x,
    "not": lambda params, x: ~x,
    "or": lambda params, a, b: a | b,
    "pad": _pad,
    "pow": lambda params, x, y: np.power(_wide(x), _wide(y)),
    "reduce_and": lambda params, x: x.all(tuple(params["axes"])),
    "reduce_or": lambda params, x: x.any(tuple(params["axes"])),
    "reduce_sum": lambda params, x: _wide(x).sum(tuple(params["axes"])),
    "rem": _rem,
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "select_n": _select_n,
    "slice": _slice,
    "sqrt": lambda params, x: np.sqrt(x),
    "squeeze": lambda params, x: x.squeeze(tuple(params["dimensions"])),
    "sub": lambda params, a, b: a - b,
    "tile": lambda params, x: np.tile(x, params["reps"]),
    "transpose": lambda params, x: x.transpose(params["permutation"]),
}
