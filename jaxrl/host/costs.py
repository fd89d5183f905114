"""Counts what a traced function computes: operations and bytes, through loops, on whatever device it will run.

XLA's own analysis counts the body of a loop once, and a rollout is a loop of loops; here a scan counts as often as it
turns. Operations of matrices are exact. What the compiler fuses cannot be known here: bytes are those of every
operation's inputs and outputs, an upper bound of what memory sees.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jax.extend import core

from jaxrl.functional import jaxprs

# What moves or renames numbers without computing any.
MOVES = {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "dynamic_update_slice",
    "expand_dims",
    "gather",
    "iota",
    "pad",
    "reshape",
    "rev",
    "scatter",
    "slice",
    "squeeze",
    "stop_gradient",
    "transpose",
}

REDUCTIONS = ("reduce", "arg", "cum", "sort")


class Cost(NamedTuple):
    """What a function computes."""

    products: float = 0.0  # floating-point operations of matrix products and convolutions, two a multiply-add
    others: float = 0.0  # elements computed by all other operations
    bytes: float = 0.0  # read and written, if nothing were fused

    def __add__(self, other):
        return Cost(*map(sum, zip(self, other, strict=True)))

    def times(self, number: float) -> "Cost":
        """So many of it."""
        return Cost(*(number * each for each in self))


def of(function: Callable, *arguments) -> Cost:
    """The cost of a function of arrays, or of their jax.ShapeDtypeStructs; nothing is computed.

    What none of its results needs costs nothing, as the compiler leaves it out.
    A `scan` counts as often as it turns, a `while` once, as its turns are unknown, and a `cond` as its cheapest branch:
    the dear one is what happens now and then. A `while` that ends itself in its first turn counts as none, for the same
    reason; it is how initial states are drawn anew.
    """
    return _of_jaxpr(jaxprs.live(function, *arguments).closed.jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> Cost:
    return sum(map(_of_equation, jaxpr.eqns), Cost())


def _of_equation(equation) -> Cost:
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return _of_jaxpr(params["jaxpr"].jaxpr).times(params["length"])
    if name == "cond":
        return min((_of_jaxpr(branch.jaxpr) for branch in params["branches"]), key=sum)
    if name == "while" and _turns_once_or_never(params):
        return Cost()
    inner = list(_inner(params))
    if inner:
        return sum(map(_of_jaxpr, inner), Cost())
    moved = sum(_bytes(each.aval) for each in [*equation.invars, *equation.outvars])
    size = sum(each.aval.size for each in equation.outvars)
    if name == "dot_general":
        return Cost(2.0 * size * _contracted(equation), 0.0, moved)
    if name == "conv_general_dilated":
        kernel, axes = equation.invars[1].aval, params["dimension_numbers"].rhs_spec
        return Cost(2.0 * size * kernel.size / kernel.shape[axes[0]], 0.0, moved)
    if name in MOVES:
        return Cost(0.0, 0.0, moved)
    if name.startswith(REDUCTIONS):
        size = sum(each.aval.size for each in equation.invars)
    return Cost(0.0, float(size), moved)


def _turns_once_or_never(params) -> bool:
    """Whether what such a loop asks is False from its first turn on."""
    condition, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    asked = [params["cond_nconsts"] + place for place, made in enumerate(body.outvars) if _is_false(made)]
    return condition.outvars[0] in [condition.invars[place] for place in asked]


def _is_false(made) -> bool:
    return isinstance(made, core.Literal) and made.aval.shape == () and not made.val


def _inner(params) -> Iterator[core.Jaxpr]:
    """The functions that an operation calls, each once: of a rule for gradients only what is computed."""
    for key, value in params.items():
        if key in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_thunk"):
            continue
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each


def _contracted(equation) -> int:
    """The numbers that each element of a product is a sum over."""
    (left, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in left)


def _bytes(aval) -> float:
    try:
        return float(aval.size * np.dtype(aval.dtype).itemsize)
    except TypeError:  # a typed key
        return 8.0 * aval.size
