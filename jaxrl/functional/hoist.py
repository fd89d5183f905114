"""A function with what can be known of it sooner worked out sooner: when it is traced, or before its loops.

Physics engines know bodies by their numbers, `segment_sum(forces, parents)` and `positions[parents]`. Which numbers
those are the model says, but JAX stages what is made of them, as it does with all else, and of the sum the compiler is
left with a scatter of rows to wherever. On a GPU that is a kernel of its own, one more for the zeros that it adds to,
nothing that uses the sum is computed in it, and its atomic additions come in another order each time. Here it is what
it is, some rows of the forces added to some others, like all that the compiler fuses with what is around it: of the
environment steps of Brax's ant an H200 launches a quarter fewer kernels.

Rows that are added to the same row are so in the order of their numbers. Derivatives are those of what is computed.

Letters in shapes: K numbers, R rows that they are of; `...` any other axes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrl.functional import jaxprs
from jaxrl.types import PyTree

TERMS = 8  # that are added to one row; of more a scatter is made
LARGEST = 4096  # elements of what is worked out sooner
SMALL, SPARSE = 512, 8  # elements of an array that is written as a whole, or so many times those that are put there


def hoisted(function: Callable) -> Callable:
    """The same function, to be mapped and compiled.

    Whole numbers that depend on no argument are worked out when it is traced, rows with such numbers are taken or
    added up as they stand, and what a loop does alike in every turn is done before it.
    """

    def sooner(*arguments: PyTree) -> PyTree:
        traced = jaxprs.once(jaxprs.live(function, *arguments))
        results = jaxprs.run(traced.closed, jax.tree.leaves(arguments), _equation)
        return jax.tree.unflatten(jax.tree.structure(traced.shapes), map(jnp.asarray, results))

    return sooner


def _equation(jaxpr, equation, operands):
    """The results of one equation of a jaxpr; each operand and result is an array, of numpy where it is known."""
    name = equation.primitive.name
    known = [_known(atom, operand) for atom, operand in zip(equation.invars, operands, strict=True)]
    if name in NUMBERS and _are_numbers(equation.outvars) and all(x is not None for x in known):
        return [np.asarray(NUMBERS[name](equation.params, *known), equation.outvars[0].aval.dtype)]
    results = RULES[name](equation, operands, known) if name in RULES else None
    if results is None:
        function, given = jaxprs.alone(jaxpr, equation, operands)
        results = function(*given)
    return results


def _known(atom, operand) -> np.ndarray | None:
    """The operand, where it is whole numbers that are known now."""
    if isinstance(operand, jax.core.Tracer) or not _are_numbers([atom]):
        return None
    return np.asarray(operand, atom.aval.dtype)


def _are_numbers(atoms) -> bool:
    """Whether they are whole numbers or truths, and not too many."""
    kinds = (jnp.integer, jnp.bool_)
    return all(
        any(jnp.issubdtype(atom.aval.dtype, kind) for kind in kinds) and atom.aval.size <= LARGEST for atom in atoms
    )


# Whole numbers, as numpy works them out: parameters, operands -> result.


def _select_n(params, which, *cases):
    return np.choose(np.broadcast_to(which, cases[0].shape).astype(int), cases)


def _broadcast_in_dim(params, x):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    lengths = [x.shape[axes.index(axis)] if axis in axes else 1 for axis in range(len(shape))]
    return np.broadcast_to(x.reshape(lengths), shape)


def _iota(params):
    shape, axis = params["shape"], params["dimension"]
    return np.broadcast_to(np.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis)), shape)


def _slice(params, x):
    steps = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


NUMBERS = {
    "add": lambda params, a, b: a + b,
    "and": lambda params, a, b: a & b,
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda params, low, x, high: np.clip(x, low, high),
    "concatenate": lambda params, *parts: np.concatenate(parts, params["dimension"]),
    "convert_element_type": lambda params, x: x,
    "copy": lambda params, x: x,
    "eq": lambda params, a, b: a == b,
    "ge": lambda params, a, b: a >= b,
    "gt": lambda params, a, b: a > b,
    "iota": _iota,
    "le": lambda params, a, b: a <= b,
    "lt": lambda params, a, b: a < b,
    "max": lambda params, a, b: np.maximum(a, b),
    "min": lambda params, a, b: np.minimum(a, b),
    "mul": lambda params, a, b: a * b,
    "ne": lambda params, a, b: a != b,
    "not": lambda params, x: ~x,
    "or": lambda params, a, b: a | b,
    "reduce_and": lambda params, x: x.all(tuple(params["axes"])),
    "rem": lambda params, a, b: np.fmod(a, b),
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "select_n": _select_n,
    "slice": _slice,
    "squeeze": lambda params, x: x.squeeze(tuple(params["dimensions"])),
    "sub": lambda params, a, b: a - b,
    "transpose": lambda params, x: x.transpose(params["permutation"]),
}


# Rows whose numbers are known. Each rule gives None where there is more to it than that.


def _gather(equation, operands, known):
    numbers = equation.params["dimension_numbers"]
    axes, sizes = tuple(numbers.start_index_map), equation.params["slice_sizes"]
    rows, index = operands[0] if known[0] is None else known[0], known[1]
    others = [sizes[axis] for axis in _others(equation.invars[0], axes)]
    if index is None or not _is_of_rows(equation, numbers, numbers.collapsed_slice_dims, axes, others):
        return None
    which = _which(equation, index, axes)
    if (which < 0).any():
        return None
    taken = _taken(_to_front(rows, axes), which)
    taken = taken.reshape(*index.shape[:-1], *taken.shape[1:])
    made = np.argsort([*_others(equation.outvars[0], numbers.offset_dims), *numbers.offset_dims])
    return [taken.transpose(*made)]


def _scatter(equation, operands, known):
    """Rows put in the place of some, or added to them."""
    numbers = equation.params["dimension_numbers"]
    axes, window = tuple(numbers.scatter_dims_to_operand_dims), numbers.update_window_dims
    x, index, updates = operands[0], known[1], equation.invars[2]
    others = [updates.aval.shape[axis] for axis in window]
    if index is None or not _is_of_rows(equation, numbers, numbers.inserted_window_dims, axes, others):
        return None
    if x.size > max(SMALL, SPARSE * updates.aval.size):  # little of it changes, in place
        return None
    old, new = _to_front(x, axes), _to_front(operands[2], _others(updates, window))
    which = _which(equation, index, axes)
    layers = _layers(which, len(old))
    if equation.primitive.name == "scatter":  # the last of several stays
        last = layers.max(axis=0, initial=-1)
        made = jnp.where((last >= 0).reshape(-1, *[1] * (old.ndim - 1)), _taken(new, last), old)
    elif len(layers) <= TERMS:
        made = functools.reduce(jnp.add, [_taken(new, layer) for layer in layers], old)
    else:
        return None
    lengths = [x.shape[axis] for axis in axes]
    return [jnp.moveaxis(made.reshape(*lengths, *made.shape[1:]), range(len(axes)), axes)]


def _is_of_rows(equation, numbers, dropped, axes, others) -> bool:
    """Whether an index means a place along some axes, and all that is there, of the lengths of the others."""
    x = equation.invars[0]
    is_whole = others == [x.aval.shape[axis] for axis in _others(x, axes)]
    return is_whole and sorted(dropped) == sorted(axes) and not numbers.operand_batching_dims


def _which(equation, index, axes) -> np.ndarray:
    """[K] which of the rows along the axes each index [..., axes] means; -1 of one that is not there."""
    lengths = np.array([equation.invars[0].aval.shape[axis] for axis in axes])
    index = index.reshape(-1, len(axes))
    if equation.params["mode"] == lax.GatherScatterMode.CLIP:
        index = np.clip(index, 0, lengths - 1)
    is_there = ((index >= 0) & (index < lengths)).all(axis=1)
    return np.where(is_there, np.ravel_multi_index(np.where(is_there, index.T, 0), lengths), -1)


def _layers(which, size) -> np.ndarray:
    """[L, R]: the first of the [K] that mean each of R rows, the second, ...; -1 where there is none any more."""
    order = np.argsort(which, kind="stable")
    rows = which[order]
    layer, is_there = np.arange(len(rows)) - np.searchsorted(rows, rows), rows >= 0
    layers = np.full((layer[is_there].max(initial=-1) + 1, size), -1)
    layers[layer[is_there], rows[is_there]] = order[is_there]
    return layers


def _taken(rows, which):
    """[K, ...]: the rows with these numbers, and 0 for -1."""
    there, is_there = np.flatnonzero(which >= 0), (which >= 0).reshape(-1, *[1] * (rows.ndim - 1))
    if isinstance(rows, np.ndarray):
        return np.where(is_there, rows[which], np.zeros((), rows.dtype))
    if not there.size:
        return jnp.zeros((len(which), *rows.shape[1:]), rows.dtype)
    first, last = there[0], there[-1]
    if np.array_equal(which[first : last + 1] - which[first], np.arange(last + 1 - first)):  # as they stand
        part = rows[which[first] : which[last] + 1]
        return jnp.pad(part, [(first, len(which) - 1 - last), *[(0, 0)] * (rows.ndim - 1)])
    taken = jnp.take(rows, np.maximum(which, 0), axis=0, mode="clip")
    return taken if there.size == len(which) else jnp.where(is_there, taken, jnp.zeros((), rows.dtype))


def _to_front(x, axes):
    """[R, ...]: R places along the axes."""
    x = x.transpose(*axes, *[axis for axis in range(x.ndim) if axis not in axes])
    return x.reshape(-1, *x.shape[len(axes) :])


def _others(atom, axes) -> list[int]:
    return [axis for axis in range(atom.aval.ndim) if axis not in axes]


# Loops.


def _scan(equation, operands, known):
    params = equation.params
    constants, carried = jaxprs.of_scan(params)
    body = _begun(params["jaxpr"], operands[:constants])

    def turn(carry, given):
        results = body(*carry, *given)
        return results[:carried], results[carried:]

    carry, given = operands[constants : constants + carried], operands[constants + carried :]
    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, made = lax.scan(turn, list(map(jnp.asarray, carry)), given, **options)
    return [*carry, *made]


def _while(equation, operands, known):
    params = equation.params
    asked, turned = params["cond_nconsts"], params["body_nconsts"]
    goes_on = _begun(params["cond_jaxpr"], operands[:asked])
    body = _begun(params["body_jaxpr"], operands[asked : asked + turned])
    carry = list(map(jnp.asarray, operands[asked + turned :]))
    return lax.while_loop(lambda carry: goes_on(*carry)[0], lambda carry: body(*carry), carry)


def _begun(closed, constants):
    """What a loop does in a turn; what is the same in all of them is done here."""

    def is_early(equation):
        return jaxprs.is_pure(equation) and sum(atom.aval.size for atom in equation.outvars) <= LARGEST

    return jaxprs.begun(closed, constants, _equation, is_early, lambda equation: equation.primitive.name in VIEWS)


# What costs nothing in the kernel that uses it, and one of its own before a loop.
VIEWS = frozenset("broadcast_in_dim convert_element_type iota reshape rev slice squeeze transpose".split())
RULES = {"gather": _gather, "scan": _scan, "scatter": _scatter, "scatter-add": _scatter, "while": _while}
