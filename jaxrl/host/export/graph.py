"""An ONNX graph under construction, and the translation of a program into one.

Letters in shapes: N rows of a batch, whatever their number.
"""

from collections.abc import Sequence

import numpy as np

from jaxrl.host.export import flatten, optional
from jaxrl.host.export.flatten import Constant, Program
from jaxrl.types import ConfigError

OPSET = 18  # of 2022: what onnxruntime 1.14, OpenVINO 2023 and TensorRT 8.6 read
IR_VERSION = 8  # of the file; the one that came with that opset
BATCH = "N"


class Graph:
    """Nodes and initialisers; the values between them are known by their names."""

    def __init__(self, batch):
        self.batch = batch  # the symbolic dimension N
        self.nodes, self.initializers = [], {}
        self._by_content, self._sources = {}, {}
        self._rows = None
        self.first_input = ""

    def add(self, op: str, *inputs, outputs: int = 1, **attributes):
        """One node; arrays among its inputs become initialisers. The name of its output, or a list of them."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        made = [f"{op}_{len(self.nodes)}" if outputs == 1 else f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(
            optional.onnx().helper.make_node(op, names, made, name=f"{op}_{len(self.nodes)}", **attributes)
        )
        return made[0] if outputs == 1 else made

    def constant(self, value, name: str = "") -> str:
        """The initialiser of that value; the same value is stored once."""
        value = np.ascontiguousarray(value).reshape(np.shape(value))
        content = (name, value.dtype.str, value.shape, value.tobytes())
        if content not in self._by_content:
            unique, number = name or f"constant_{len(self.initializers)}", 1
            while unique in self.initializers:
                number += 1
                unique = f"{name}.{number}"
            self._by_content[content] = unique
            self.initializers[unique] = value
        return self._by_content[content]

    def ints(self, *values) -> str:
        """Integers for a node that takes them as an input."""
        return self.constant(np.array(values, np.int64))

    def count(self, size) -> int | None:
        """How many N a dimension is; None if it is a number."""
        if isinstance(size, int | np.integer):
            return None
        if size % self.batch != 0:
            raise ConfigError(
                f"the policy cannot be exported: the network makes an array with an axis of {size}, "
                "and only multiples of the batch's N can be had; reshape it otherwise in the network."
            )
        return int(size // self.batch)

    def shape(self, sizes: Sequence):
        """A shape as an input of a node, also where N is part of it."""
        if all(self.count(size) is None for size in sizes):
            return self.ints(*map(int, sizes))
        parts = [self._size(size) for size in sizes]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def reshape(self, x: str, sizes: Sequence, given: Sequence | None = None) -> str:
        """x in another shape; `given`: the shape that it has, if that is known."""
        # A shape of a shape is one step, and none if it leads back: a policy's step puts in an axis of time and out.
        x, given = self._sources.get(x, (x, given))
        if given is not None and tuple(given) == tuple(sizes):
            return x
        symbolic = [i for i, size in enumerate(sizes) if self.count(size) is not None]
        if len(symbolic) > 1 or 0 in sizes:
            made = self.add("Reshape", x, self.shape(sizes), allowzero=1)
        else:
            made = self.add("Reshape", x, self.ints(*(-1 if i in symbolic else int(s) for i, s in enumerate(sizes))))
        self._sources[made] = (x, given)
        return made

    def cast(self, x: str, dtype) -> str:
        """x as another type."""
        return self.add("Cast", x, to=element_type(dtype))

    def _size(self, size) -> str:
        times = self.count(size)
        if times is None:
            return self.ints(int(size))
        if self._rows is None:
            self._rows = self.add("Shape", self.first_input, start=0, end=1)
        return self._rows if times == 1 else self.add("Mul", self._rows, self.ints(times))


def element_type(dtype) -> int:
    """ONNX's number for a type."""
    return optional.onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def build(program: Program, input_names: Sequence[str], output_names: Sequence[str], batch, name: str, doc: str):
    """The ONNX model of a program; an onnx.ModelProto.

    Args:
        program: to be translated.
        input_names, output_names: one for each of the program's.
        batch: the symbolic dimension N.
        name, doc: of the model.

    Raises:
        ConfigError: a primitive that has no rule, or a type that ONNX's runtimes do not compute in.
    """
    from jaxrl.host.export import rules  # which import what is above

    graph = Graph(batch)
    graph.first_input = input_names[0]
    names = dict(zip(program.inputs, input_names, strict=True))
    folded: dict = {}

    def value(x):
        x = folded.get(x, x)
        return graph.constant(np.asarray(x.value), x.name) if isinstance(x, Constant) else names[x]

    for equation in program.equations:
        constants = flatten.known(equation, folded)
        if constants is not None:
            folded.update(zip(equation.outputs, constants, strict=True))
            continue
        rule = rules.of(equation)
        resolved = equation._replace(inputs=[folded.get(x, x) for x in equation.inputs])
        made = rule(graph, resolved, *map(value, equation.inputs))
        names.update(zip(equation.outputs, [made] if isinstance(made, str) else made, strict=True))
    for x, output in zip(program.outputs, output_names, strict=True):
        node = optional.onnx().helper.make_node("Identity", [value(x)], [output], name=output)
        graph.nodes.append(node)
    return _model(graph, program, input_names, output_names, name, doc)


def _model(graph, program, input_names, output_names, name, doc):
    onnx = optional.onnx()
    used, nodes = set(output_names), []
    for node in reversed(graph.nodes):
        if used.intersection(node.output):
            nodes.append(node)
            used.update(node.input)

    def info(x, name):
        sizes = [size if graph.count(size) is None else BATCH for size in x.shape]
        return onnx.helper.make_tensor_value_info(name, element_type(x.dtype), sizes)

    made = onnx.helper.make_graph(
        nodes[::-1],
        name,
        [info(x, name) for x, name in zip(program.inputs, input_names, strict=True)],
        [info(x, name) for x, name in zip(program.outputs, output_names, strict=True)],
        [onnx.numpy_helper.from_array(x, name) for name, x in graph.initializers.items() if name in used],
        doc_string=doc,
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="jaxrl")
    onnx.checker.check_model(model, full_check=True)
    return model
