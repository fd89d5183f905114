"""How each primitive of JAX is said in ONNX: a table of rules, (graph, equation, *inputs by name) -> output by name.

The operators are those of opset 18, https://onnx.ai/onnx/operators/.
"""

from collections.abc import Callable

import numpy as np

from jaxrl.host.export import layers, layout
from jaxrl.host.export.flatten import Equation
from jaxrl.types import ConfigError

# onnxruntime computes in these; of narrower whole numbers, and of those without a sign, it only moves some around.
COMPUTED = ("float32", "float64", "int32", "int64", "bool")
NARROW = ("int8", "int16", "uint8", "uint16", "uint32")


def of(equation: Equation) -> Callable:
    """The rule of an equation.

    Raises:
        ConfigError: there is none, or it computes in a type that is not exported.
    """
    if equation.name in layout.RULES:
        return layout.RULES[equation.name]
    rule = RULES.get(equation.name) or layers.RULES.get(equation.name)
    if rule is None:
        raise ConfigError(
            f"the policy cannot be exported: jax.lax's primitive {equation.name!r} has no rule for ONNX; "
            "use another in the network, or add a rule to jaxrl/host/export/rules.py."
        )
    types = {str(x.dtype) for x in [*equation.inputs, *equation.outputs]}
    if equation.name != "convert_element_type" and types - {*COMPUTED, *NARROW}:
        raise ConfigError(
            f"the policy cannot be exported: it computes {equation.name!r} in {(types - {*COMPUTED, *NARROW}).pop()}, "
            "and what is exported is checked to 1e-5; compute in float32 in the network."
        )
    return rule


def same_name(op: str) -> Callable:
    """The rule of a primitive that ONNX has as well."""

    def rule(graph, equation, *inputs):
        dtype = str(equation.inputs[0].dtype)
        if dtype not in NARROW:
            return graph.add(op, *inputs)
        # As the wider number; what leaves the range wraps around as it becomes narrow again.
        wide = graph.add(op, *(graph.cast(x, np.int64) for x in inputs))
        made = equation.outputs[0].dtype
        return wide if _is_bool(equation.outputs[0]) else graph.cast(wide, made)

    return rule


def _is_bool(x) -> bool:
    return str(x.dtype) == "bool"


def logical(op: str, bitwise: str) -> Callable:
    """The rule of a primitive that is logical of bools, and of numbers works on their bits."""
    return lambda graph, equation, *inputs: graph.add(op if _is_bool(equation.inputs[0]) else bitwise, *inputs)


def ordered(op: str) -> Callable:
    """The rule of a comparison; False is below True."""

    def rule(graph, equation, *inputs):
        if _is_bool(equation.inputs[0]):
            inputs = [graph.cast(x, np.int32) for x in inputs]
        return same_name(op)(graph, equation, *inputs)

    return rule


def keep(graph, equation, *inputs):
    """What says something to compilers and derivatives, and nothing of the numbers."""
    return inputs[0] if len(inputs) == 1 else list(inputs)


def not_equal(graph, equation, x, y):
    return graph.add("Not", same_name("Equal")(graph, equation, x, y))


def select(graph, equation, which, *cases):
    """One of the cases, element by element; of bools True is the second."""
    if _is_bool(equation.inputs[0]):
        return graph.add("Where", which, cases[1], cases[0])
    chosen = cases[-1]
    for index in range(len(cases) - 2, -1, -1):
        is_below = graph.add("Less", which, np.array(index + 1, equation.inputs[0].dtype))
        chosen = graph.add("Where", is_below, cases[index], chosen)
    return chosen


def clamp(graph, equation, low, x, high):
    return graph.add("Min", graph.add("Max", x, low), high)


def convert(graph, equation, x):
    return x if equation.inputs[0].dtype == equation.outputs[0].dtype else graph.cast(x, equation.outputs[0].dtype)


def number(equation, value):
    """A constant of the type that the equation computes in."""
    return np.array(value, equation.inputs[0].dtype)


def integer_pow(graph, equation, x):
    exponent = equation.params["y"]
    power = graph.add("Pow", x, number(equation, abs(exponent)))
    return graph.add("Reciprocal", power) if exponent < 0 else power


def square(graph, equation, x):
    return graph.add("Mul", x, x)


def rsqrt(graph, equation, x):
    return graph.add("Reciprocal", graph.add("Sqrt", x))


def cbrt(graph, equation, x):
    root = graph.add("Pow", graph.add("Abs", x), number(equation, 1 / 3))
    return graph.add("Mul", graph.add("Sign", x), root)


def exp2(graph, equation, x):
    return graph.add("Pow", number(equation, 2), x)


def log1p(graph, equation, x):
    """log(1 + x) with the digits of a small x: log(u) x / (u - 1) with u = 1 + x rounded.

    Goldberg 1991, theorem 4, https://doi.org/10.1145/103162.103163.
    """
    one = number(equation, 1)
    u = graph.add("Add", x, one)
    slope = graph.add("Div", graph.add("Mul", graph.add("Log", u), x), graph.add("Sub", u, one))
    lost = graph.add("Or", graph.add("Equal", u, one), graph.add("IsInf", u))
    return graph.add("Where", lost, x, slope)


def expm1(graph, equation, x):
    """eˣ - 1 = tanh(x / 2) (eˣ + 1), with the digits of a small x."""
    half = graph.add("Tanh", graph.add("Mul", x, number(equation, 0.5)))
    return graph.add("Mul", half, graph.add("Add", graph.add("Exp", x), number(equation, 1)))


def erfc(graph, equation, x):
    return graph.add("Sub", number(equation, 1), graph.add("Erf", x))


def remainder(graph, equation, x, y):
    return graph.add("Mod", x, y, fmod=1)


def round_(graph, equation, x):
    if int(equation.params["rounding_method"]) == 1:  # to the even of two that are as near
        return graph.add("Round", x)
    away = graph.add("Floor", graph.add("Add", graph.add("Abs", x), number(equation, 0.5)))
    return graph.add("Mul", graph.add("Sign", x), away)


def is_finite(graph, equation, x):
    return graph.add("Not", graph.add("Or", graph.add("IsInf", x), graph.add("IsNaN", x)))


def reduction(op: str) -> Callable:
    """The rule of a sum, a largest element or the like over some axes."""

    def rule(graph, equation, x):
        axes, dtype = equation.params["axes"], equation.inputs[0].dtype
        if not axes:
            return x
        as_number = _is_bool(equation.inputs[0]) or str(dtype) in NARROW
        x = graph.cast(x, np.int32) if as_number else x
        reduced = graph.add(op, x, graph.ints(*axes), keepdims=0)
        return graph.cast(reduced, equation.outputs[0].dtype) if as_number else reduced

    return rule


def arg(op: str) -> Callable:
    """The rule of the place of the largest or smallest element; the first of equals."""

    def rule(graph, equation, x):
        [axis] = equation.params["axes"]
        if _is_bool(equation.inputs[0]) or str(equation.inputs[0].dtype) in NARROW:
            x = graph.cast(x, np.int32)
        return graph.cast(graph.add(op, x, axis=axis, keepdims=0), equation.outputs[0].dtype)

    return rule


def cumsum(graph, equation, x):
    return graph.add("CumSum", x, np.array(equation.params["axis"], np.int64), reverse=int(equation.params["reverse"]))


def top_k(graph, equation, x):
    values, places = graph.add("TopK", x, graph.ints(equation.params["k"]), axis=equation.params["axis"], outputs=2)
    return [values, graph.cast(places, equation.outputs[1].dtype)]


SAME = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Add": "add add_any",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Div": "div",
    "Equal": "eq",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Max": "max",
    "Min": "min",
    "Mul": "mul",
    "Neg": "neg",
    "Pow": "pow",
    "Sigmoid": "logistic",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Sub": "sub",
    "Tan": "tan",
    "Tanh": "tanh",
}
KEPT = "copy copy_p device_put name optimization_barrier pvary sharding_constraint stop_gradient"

RULES: dict[str, Callable] = {
    **{name: same_name(op) for op, names in SAME.items() for name in names.split()},
    **{name: keep for name in KEPT.split()},
    "and": logical("And", "BitwiseAnd"),
    "argmax": arg("ArgMax"),
    "argmin": arg("ArgMin"),
    "cbrt": cbrt,
    "clamp": clamp,
    "convert_element_type": convert,
    "cumsum": cumsum,
    "erfc": erfc,
    "exp2": exp2,
    "expm1": expm1,
    "ge": ordered("GreaterOrEqual"),
    "gt": ordered("Greater"),
    "integer_pow": integer_pow,
    "is_finite": is_finite,
    "le": ordered("LessOrEqual"),
    "log1p": log1p,
    "lt": ordered("Less"),
    "ne": not_equal,
    "not": logical("Not", "BitwiseNot"),
    "or": logical("Or", "BitwiseOr"),
    "reduce_and": reduction("ReduceMin"),
    "reduce_max": reduction("ReduceMax"),
    "reduce_min": reduction("ReduceMin"),
    "reduce_or": reduction("ReduceMax"),
    "reduce_prod": reduction("ReduceProd"),
    "reduce_sum": reduction("ReduceSum"),
    "rem": remainder,
    "round": round_,
    "rsqrt": rsqrt,
    "select_n": select,
    "square": square,
    "top_k": top_k,
    "xor": logical("Xor", "BitwiseXor"),
}
