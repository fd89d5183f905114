"""A traced function as one flat list of equations: calls are inlined, loops unrolled, what nobody needs left out.

Letters in shapes: N rows of a batch, a symbolic dimension of jax.export.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from jaxrl.functional import jaxprs
from jaxrl.types import ConfigError

# Primitives that are nothing but a call, and where their parameters hold what is called.
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
LOOPS = ("scan", "while", "cond")
RESHAPING = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims", "convert_element_type", "copy", "copy_p")
MAX_UNROLL = 128  # steps of a scan; the graph holds each of them


class Wire:
    """What an equation makes, or an input of the function; told apart by identity."""

    def __init__(self, shape: Sequence, dtype):
        self.shape, self.dtype = tuple(shape), dtype


class Constant:
    """A number or an array that is known, perhaps a parameter with a name."""

    def __init__(self, value, name: str = ""):
        self.value, self.name = value, name

    @property
    def shape(self):
        return tuple(np.shape(self.value))

    @property
    def dtype(self):
        return self.value.dtype


class Equation(NamedTuple):
    """outputs = primitive(inputs), with the primitive's parameters."""

    name: str
    inputs: list  # of Wire or Constant
    outputs: list[Wire]
    params: dict[str, Any]
    evaluate: Callable  # arrays -> list of arrays


class Program(NamedTuple):
    """A function of arrays as equations in order."""

    inputs: list[Wire]
    equations: list[Equation]
    outputs: list  # of Wire or Constant


def flatten(jaxpr: core.ClosedJaxpr, constants: Sequence[Constant]) -> Program:
    """The equations of a traced function.

    Args:
        jaxpr: of the function.
        constants: its first arguments, whose values are known; the others become the program's inputs.

    Raises:
        ConfigError: a loop whose length is not known, or that is too long.
    """
    wires = [Wire(v.aval.shape, v.aval.dtype) for v in jaxpr.jaxpr.invars[len(constants) :]]
    equations: list[Equation] = []
    outputs = _inline(jaxpr.jaxpr, [Constant(x) for x in jaxpr.consts], [*constants, *wires], equations)
    merged, equations = _merge(equations)
    outputs = [merged.get(x, x) for x in outputs]
    return Program(wires, needed(equations, outputs), outputs)


def needed(equations: list[Equation], outputs: Sequence) -> list[Equation]:
    """Those equations, in order, without which the outputs cannot be had."""
    wanted, kept = set(outputs), []
    for equation in reversed(equations):
        if wanted.intersection(equation.outputs):
            kept.append(equation)
            wanted.update(equation.inputs)
    return kept[::-1]


def reads(program: Program, outputs: Sequence) -> set:
    """All that the outputs depend on: wires and constants."""
    seen = set(outputs)
    for equation in needed(program.equations, outputs):
        seen.update(equation.inputs)
    return seen


def _inline(jaxpr, constants, arguments, equations) -> list:
    """Appends the equations of a jaxpr with these arguments; what it gives."""
    known = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom):
        if isinstance(atom, core.Literal):
            return Constant(np.asarray(atom.val, atom.aval.dtype))
        return known[atom]

    for eqn in jaxpr.eqns:
        name, inputs = eqn.primitive.name, [read(atom) for atom in eqn.invars]
        called = [eqn.params[key] for key in CALLS if _is_jaxpr(eqn.params.get(key))]
        if name in LOOPS:
            outputs = _loop(name, eqn, inputs, equations)
        elif called and not name.startswith("reduce"):
            outputs = _call(called[0], inputs, equations)
        else:
            outputs = [Wire(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
            equations.append(Equation(name, inputs, outputs, eqn.params, _evaluator(eqn)))
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _is_jaxpr(x):
    return isinstance(x, core.Jaxpr | core.ClosedJaxpr)


def _call(jaxpr, inputs, equations):
    if isinstance(jaxpr, core.ClosedJaxpr):
        return _inline(jaxpr.jaxpr, [Constant(x) for x in jaxpr.consts], inputs, equations)
    return _inline(jaxpr, [], inputs, equations)


def _evaluator(eqn):
    def evaluate(*arrays):
        made = eqn.primitive.bind(*arrays, **eqn.params)
        return made if eqn.primitive.multiple_results else [made]

    return evaluate


def _loop(name, eqn, inputs, equations):
    if name == "cond":
        return _cond(eqn, inputs, equations)
    if name == "while":
        raise ConfigError(
            "the policy cannot be exported: it loops until a condition holds (lax.while_loop), "
            "and a graph has a fixed length; use lax.scan in the network."
        )
    return _scan(eqn, inputs, equations)


def _cond(eqn, inputs, equations):
    """The branch that is known to be taken, or all of them and a choice among what they give."""
    which, *inputs = inputs
    branches = eqn.params["branches"]
    if isinstance(which, Constant):
        return _call(branches[int(np.clip(which.value, 0, len(branches) - 1))], inputs, equations)
    results = [_call(branch, inputs, equations) for branch in branches]
    outputs = []
    for cases in zip(*results, strict=True):
        wire = Wire(cases[0].shape, cases[0].dtype)
        evaluate = lambda which, *cases: [cases[int(which)]]  # noqa: E731
        equations.append(Equation("select_n", [which, *cases], [wire], {}, evaluate))
        outputs.append(wire)
    return outputs


def _scan(eqn, inputs, equations):
    """The loop's steps one after the other."""
    params = eqn.params
    length, (num_consts, num_carry) = params["length"], jaxprs.of_scan(params)
    if not isinstance(length, int) or length > MAX_UNROLL:
        raise ConfigError(
            f"the policy cannot be exported: it loops over {length} steps (lax.scan) for one action, "
            f"and at most {MAX_UNROLL} are written out; shorten the loop in the network."
        )
    consts, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
    xs, rows = inputs[num_consts + num_carry :], []
    steps = range(length)
    for step in reversed(steps) if params["reverse"] else steps:
        now = [_row(x, step, equations) for x in xs]
        results = _call(params["jaxpr"], [*consts, *carry, *now], equations)
        carry = results[:num_carry]
        rows.append(results[num_carry:])
    rows = rows[::-1] if params["reverse"] else rows
    return [*carry, *(_stacked(column, equations) for column in zip(*rows, strict=True))]


def _row(x, step, equations):
    """x[step] of the leading axis."""
    start, limit = [step] + [0] * (len(x.shape) - 1), [step + 1, *x.shape[1:]]
    if x.shape[0] != 1:
        x = _add(
            equations,
            "slice",
            [x],
            (1, *x.shape[1:]),
            {"start_indices": start, "limit_indices": limit, "strides": None},
            lambda x: [x[step : step + 1]],
        )
    return _reshaped(x, x.shape[1:], equations)


def _stacked(column, equations):
    """The rows as one array, [T, ...]."""
    rows = [_reshaped(x, (1, *x.shape), equations) for x in column]
    if len(rows) == 1:
        return rows[0]
    shape = (len(rows), *rows[0].shape[1:])
    return _add(equations, "concatenate", rows, shape, {"dimension": 0}, lambda *x: [np.concatenate(x)])


def _reshaped(x, shape, equations):
    return _add(
        equations, "reshape", [x], shape, {"new_sizes": shape, "dimensions": None}, lambda x: [x.reshape(shape)]
    )


def _add(equations, name, inputs, shape, params, evaluate):
    wire = Wire(shape, inputs[0].dtype)
    equations.append(Equation(name, inputs, [wire], params, evaluate))
    return wire


def _merge(equations: list[Equation]) -> tuple[dict, list[Equation]]:
    """Equations that say the same as one before are that one: a network that is applied twice stands here once."""
    merged, seen, kept = {}, {}, []
    for equation in equations:
        inputs = [merged.get(x, x) for x in equation.inputs]
        key = (equation.name, tuple(map(_identity, inputs)), repr(sorted(equation.params.items(), key=str)))
        if key in seen:
            merged.update(zip(equation.outputs, seen[key], strict=True))
        else:
            seen[key] = equation.outputs
            kept.append(equation._replace(inputs=inputs))
    return merged, kept


def _identity(x):
    """What tells an input of an equation from others: its value if it is a small number, else which one it is."""
    if isinstance(x, Constant) and isinstance(x.value, np.ndarray) and x.value.size <= 1:
        return (x.value.dtype.str, x.value.shape, x.value.tobytes())
    return id(x)


def known(equation: Equation, values: dict) -> list[Constant] | None:
    """What an equation makes if all that it takes is known and its shapes are; None else.

    Args:
        equation: of a program.
        values: the constants among its inputs that equations before it made, by wire.
    """
    inputs = [values.get(x, x) for x in equation.inputs]
    sizes = [size for wire in equation.outputs for size in wire.shape]
    if not all(isinstance(x, Constant) for x in inputs) or not all(
        isinstance(size, int | np.integer) for size in sizes
    ):
        return None
    with jax.default_matmul_precision("highest"):
        made = [np.asarray(x) for x in equation.evaluate(*(np.asarray(x.value) for x in inputs))]
    names = [x.name for x in inputs if x.name]
    name = names[0] if len(names) == 1 else ""
    if name and equation.name not in RESHAPING:
        name = f"{name}.{equation.name}"
    return [Constant(x, name) for x in made]
