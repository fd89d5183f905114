"""Jaxprs for those who run them in another way; how JAX names what they hold changes from time to time."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from jaxrl.types import PyTree

INLINED = ("jit", "pjit")  # what is compiled with what is around it
# The first draws anew each time, and has no effect by which JAX would know; of the second JAX's check of keys says so.
NEVER_THE_SAME = ("rng_uniform", "random_wrap")


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A function of arguments of certain shapes, which calling it does not trace again."""

    closed: core.ClosedJaxpr
    shapes: PyTree  # of the results

    def __call__(self, *arguments: PyTree) -> PyTree:
        """What the function makes of such arguments."""
        results = core.jaxpr_as_fun(self.closed)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(self.shapes), results)


def live(function: Callable, *arguments: PyTree) -> Traced:
    """The function, of arguments of such shapes, without what none of its results needs.

    What a `while` loop's body closes over is carried through the loop, needed or not, and through those within: of an
    environment with a model of a hundred arrays, all of them. JAX clears up inside of a `scan`, but not of a `while`,
    and the compiler takes its time to see it.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    jaxpr, constants = closed.jaxpr, len(closed.consts)
    whole = jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars])
    kept = [False] * constants + [True] * len(jaxpr.invars)
    lean, is_needed = partial_eval.dce_jaxpr(whole, [True] * len(jaxpr.outvars), kept)
    needed = [constant for constant, needed in zip(closed.consts, is_needed[:constants], strict=True) if needed]
    lean = lean.replace(constvars=lean.invars[: len(needed)], invars=lean.invars[len(needed) :])
    return Traced(core.ClosedJaxpr(lean, needed), shapes)


def once(traced: Traced) -> Traced:
    """The same function with nothing done twice.

    JAX does not see that it is asked for the same thing again, as physics asks for the same rotations. XLA does, but
    for CPUs it does after all the passes that cost by the instruction.
    """
    return Traced(core.ClosedJaxpr(_once(traced.closed.jaxpr, {}), traced.closed.consts), traced.shapes)


def ready(function: Callable, *arguments: PyTree) -> Traced:
    """`live`, as it is compiled best: for a CPU `once`, and not for a GPU, where what several use is less fused."""
    traced = live(function, *arguments)
    return once(traced) if jax.default_backend() == "cpu" else traced


def is_pure(equation) -> bool:
    """Whether doing it once, or once more, is all the same, of a function or loop with all that is in it."""
    if equation.effects or equation.primitive.name in NEVER_THE_SAME:
        return False
    return all(is_pure(inner) for jaxpr in core.jaxprs_in_params(equation.params) for inner in jaxpr.eqns)


def _once(jaxpr, done):
    """The jaxpr without equations that do what one before has done, in functions and loops too.

    Args:
        jaxpr: whichever.
        done: id of a jaxpr -> it, and what became of it: one that is called twice stays one.
    """
    made, same, equations = {}, {}, []
    for equation in jaxpr.eqns:
        invars = [atom if isinstance(atom, core.Literal) else same.get(atom, atom) for atom in equation.invars]
        params = {name: _once_within(param, done) for name, param in equation.params.items()}
        equation = equation.replace(invars=invars, params=params)
        options = [(name, type(params[name]), params[name]) for name in sorted(params)]
        what = (equation.primitive, equation.ctx, *map(_what, invars), *options)
        try:
            before = made.setdefault(what, equation) if is_pure(equation) else None
        except TypeError:  # a parameter that cannot be compared
            before = None
        pairs = [] if before is None else list(zip(equation.outvars, before.outvars, strict=True))
        if before is None or before is equation or any(isinstance(other, core.DropVar) for _, other in pairs):
            equations.append(equation)
        else:
            same.update(pairs)
    outvars = [atom if isinstance(atom, core.Literal) else same.get(atom, atom) for atom in jaxpr.outvars]
    return jaxpr.replace(eqns=equations, outvars=outvars)


def _once_within(param, done):
    """A parameter of an equation, with nothing done twice in the jaxprs that it has."""
    if type(param) is tuple:
        return tuple(_once_within(each, done) for each in param)
    if isinstance(param, core.Jaxpr) and param.effects or not isinstance(param, core.Jaxpr | core.ClosedJaxpr):
        return param
    if id(param) not in done:
        once = _once(getattr(param, "jaxpr", param), done)
        done[id(param)] = param, once if isinstance(param, core.Jaxpr) else core.ClosedJaxpr(once, param.consts)
    return done[id(param)][1]


def _what(atom):
    """Which value an operand is: variables are themselves, and numbers are equal to the bit."""
    if not isinstance(atom, core.Literal):
        return atom
    return atom.aval.dtype, atom.aval.shape, atom.aval.weak_type, np.asarray(atom.val, atom.aval.dtype).tobytes()


def carried(step: Callable, state: PyTree, *inputs: PyTree) -> list[bool]:
    """Which leaves of the state a step reads, be it in the end: a leaf that only leads to itself or nowhere is not.

    Args:
        step: (state, *inputs) -> (state, results).
        state, inputs: abstract, as `jax.eval_shape` gives them.
    """
    closed, (after, _) = jax.make_jaxpr(step, return_shape=True)(state, *inputs)
    size = len(jax.tree.leaves(after))
    read, more = [], [False] * size
    while read != more:  # what is read makes that wanted which it is made of
        read = more
        wanted = read + [True] * (len(closed.jaxpr.outvars) - size)
        _, is_used = partial_eval.dce_jaxpr(closed.jaxpr, wanted)
        more = [known or used for known, used in zip(read, is_used[:size], strict=True)]
    return read


def run(closed: core.ClosedJaxpr, operands: list, rule: Callable) -> list:
    """The results of a jaxpr, each equation done by a rule; those of functions inlined in it too.

    Args:
        closed: the jaxpr.
        operands: whatever the rule takes.
        rule: (jaxpr, equation, operands) -> results.
    """
    return _results(closed.jaxpr, _through(closed.jaxpr, closed.jaxpr.eqns, _given(closed, operands), rule))


def begun(
    closed: core.ClosedJaxpr, constants: list, rule: Callable, is_early: Callable, is_cheap: Callable
) -> Callable:
    """`run` with the last operands to come: what the first suffice for is done now, where this is called.

    Args:
        closed, rule: of `run`.
        constants: the first operands.
        is_early: equation -> bool, whether it may be done now.
        is_cheap: equation -> bool, whether it is done anew then for what is to be done then.

    Returns:
        The other operands -> results.
    """
    jaxpr, known, later = closed.jaxpr, _given(closed, constants), []
    for equation in jaxpr.eqns:
        is_ready = all(isinstance(atom, core.Literal) or atom in known for atom in equation.invars)
        if is_now := is_ready and is_early(equation):
            known = _through(jaxpr, [equation], known, rule)
        if not is_now or is_cheap(equation):
            later.append(equation)
    rest = jaxpr.invars[len(constants) :]
    return lambda *operands: _results(
        jaxpr, _through(jaxpr, later, known | dict(zip(rest, operands, strict=True)), rule)
    )


def _given(closed, operands):
    """What is known of a jaxpr with the first of its operands: variable -> operand."""
    variables = closed.jaxpr.invars[: len(operands)]
    return dict(zip([*closed.jaxpr.constvars, *variables], [*closed.consts, *operands], strict=True))


def _through(jaxpr, equations, known, rule):
    """What is known after some of the equations."""
    known = dict(known)
    for equation in equations:
        operands = [_read(known, atom) for atom in equation.invars]
        if equation.primitive.name in INLINED:
            with jax.named_scope(equation.params["name"]):
                results = run(equation.params["jaxpr"], operands, rule)
        else:
            results = rule(jaxpr, equation, operands)
        known.update(zip(equation.outvars, results, strict=True))
    return known


def _results(jaxpr, known):
    return [_read(known, atom) for atom in jaxpr.outvars]


def _read(known, atom):
    return atom.val if isinstance(atom, core.Literal) else known[atom]


def alone(jaxpr, equation, operands: list) -> tuple[Callable, list]:
    """One equation as a function, and its arguments: those operands that are no numbers of the jaxpr's own."""
    given = {
        variable: operand
        for variable, operand in zip(equation.invars, operands, strict=True)
        if not isinstance(variable, core.Literal)
    }
    one = jaxpr.replace(constvars=[], invars=list(given), outvars=equation.outvars, eqns=[equation])
    return core.jaxpr_as_fun(core.ClosedJaxpr(one, ())), list(given.values())


def of_scan(params: dict) -> tuple[int, int]:
    """How many operands of a `scan` are constants, and how many after them its carry; what it goes through follows."""
    if "ft_in" in params:  # from jax 0.11 on
        constants, carry, _ = params["ft_in"].unpack()
        return len(constants), len(carry)
    return params["num_consts"], params["num_carry"]
