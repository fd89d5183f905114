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

from jaxrl.functional import jaxprs, known
from jaxrl.functional.known import LARGEST
from jaxrl.types import PyTree

TERMS = 8  # that are added to one row; of more a scatter is made
SMALL, SPARSE = 512, 8  # elements of an array that is written as a whole, or so many times those that are put there


def hoisted(function: Callable, is_whole: bool = True) -> Callable:
    """The same function, to be mapped and compiled.

    What depends on no argument is worked out when it is traced, rows with numbers that are known are taken or added up
    as they stand, and what a loop does alike in every turn is done before it.

    Args:
        function: pure.
        is_whole: all of that; if not, only the first.
    """

    def sooner(*arguments: PyTree) -> PyTree:
        traced = jaxprs.once(jaxprs.live(function, *arguments))
        rule = functools.partial(_equation, is_whole)
        results = jaxprs.run(traced.closed, jax.tree.leaves(arguments), rule)
        return jax.tree.unflatten(jax.tree.structure(traced.shapes), map(jnp.asarray, results))

    return sooner


def _equation(is_whole, jaxpr, equation, operands):
    """The results of one equation of a jaxpr; each operand and result is an array, of numpy where it is known."""
    results, name = known.results(equation, operands), equation.primitive.name
    if name in LOOPS:
        results = LOOPS[name](equation, operands, is_whole)
    elif results is None and is_whole and name in ROWS:
        results = ROWS[name](equation, operands)
    if results is None:
        function, given = jaxprs.alone(jaxpr, equation, operands)
        results = function(*map(known.staged, given))
    return results


# Rows whose numbers are known. Each rule gives None where there is more to it than that.


def _gather(equation, operands):
    numbers = equation.params["dimension_numbers"]
    axes, sizes = tuple(numbers.start_index_map), equation.params["slice_sizes"]
    rows, index = operands[0], _numbers(equation.invars[1], operands[1])
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


def _scatter(equation, operands):
    """Rows put in the place of some, or added to them."""
    numbers = equation.params["dimension_numbers"]
    axes, window = tuple(numbers.scatter_dims_to_operand_dims), numbers.update_window_dims
    x, index, updates = operands[0], _numbers(equation.invars[1], operands[1]), equation.invars[2]
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


def _numbers(atom, operand) -> np.ndarray | None:
    """The whole numbers that an index is, where they are known."""
    return np.asarray(operand, atom.aval.dtype) if known.is_known(operand) and atom.aval.size <= LARGEST else None


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


def _scan(equation, operands, is_whole):
    params = equation.params
    constants, carried = jaxprs.of_scan(params)
    body = _begun(params["jaxpr"], operands[:constants], is_whole)

    def turn(carry, given):
        results = body(*carry, *given)
        return results[:carried], results[carried:]

    carry, given = operands[constants : constants + carried], operands[constants + carried :]
    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, made = lax.scan(turn, list(map(jnp.asarray, carry)), given, **options)
    return [*carry, *made]


def _while(equation, operands, is_whole):
    params = equation.params
    if params["cond_jaxpr"].out_avals[0].shape:  # mapped: some may be done before the others are
        return None
    asked, turned = params["cond_nconsts"], params["body_nconsts"]
    goes_on = _begun(params["cond_jaxpr"], operands[:asked], is_whole)
    body = _begun(params["body_jaxpr"], operands[asked : asked + turned], is_whole)
    carry = list(map(jnp.asarray, operands[asked + turned :]))
    return lax.while_loop(lambda carry: goes_on(*carry)[0], lambda carry: body(*carry), carry)


def _begun(closed, constants, is_whole):
    """What a loop does in a turn; what is the same in all of them is done here."""

    def is_early(equation):
        is_small = sum(atom.aval.size for atom in equation.outvars) <= LARGEST
        return is_whole and is_small and jaxprs.is_pure(equation)

    rule = functools.partial(_equation, is_whole)
    return jaxprs.begun(closed, constants, rule, is_early, lambda equation: equation.primitive.name in VIEWS)


# What costs nothing in the kernel that uses it, and one of its own before a loop.
VIEWS = frozenset("broadcast_in_dim convert_element_type iota reshape rev slice squeeze transpose".split())
ROWS = {"gather": _gather, "scatter": _scatter, "scatter-add": _scatter}
LOOPS = {"scan": _scan, "while": _while}
