"""Rules of the primitives that layers are made of: products of matrices, convolutions, pools, looking up.

Letters in shapes: R rows, C channels, H height, W width.
"""

import string
from collections.abc import Callable

import numpy as np

from jaxrl.host.export import layout
from jaxrl.types import ConfigError


def dot_general(graph, equation, x, y):
    """MatMul where it is one, as that is what runtimes are fast at; else Einsum."""
    (x_sum, y_sum), (x_batch, y_batch) = equation.params["dimension_numbers"]
    x_rank, y_rank = (len(each.shape) for each in equation.inputs[:2])
    if not x_batch and (tuple(x_sum), tuple(y_sum), y_rank) == ((x_rank - 1,), (0,), 2):
        return graph.add("MatMul", x, y)
    letters = iter(string.ascii_lowercase)
    x_axes, y_axes = [next(letters) for _ in range(x_rank)], [next(letters) for _ in range(y_rank)]
    for mine, other in [*zip(x_sum, y_sum, strict=True), *zip(x_batch, y_batch, strict=True)]:
        y_axes[other] = x_axes[mine]
    rest = [x_axes[i] for i in range(x_rank) if i not in {*x_sum, *x_batch}]
    rest += [y_axes[i] for i in range(y_rank) if i not in {*y_sum, *y_batch}]
    equation_text = f"{''.join(x_axes)},{''.join(y_axes)}->{''.join([x_axes[i] for i in x_batch] + rest)}"
    return graph.add("Einsum", x, y, equation=equation_text)


def convolution(graph, equation, x, kernel):
    """Conv, whose channels come before the places."""
    params = equation.params
    if any(each != 1 for each in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise ConfigError(
            "the policy cannot be exported: a convolution with dilated input or grouped rows has no rule for ONNX; "
            "use a plain one in the network, or add the rule to jaxrl/host/export/layers.py."
        )
    before, after = zip(*params["padding"], strict=True)
    if min(*before, *after, 0) < 0:
        raise ConfigError("the policy cannot be exported: a convolution pads by less than 0; cut its input instead.")
    x_spec, kernel_spec, out_spec = params["dimension_numbers"]
    made = graph.add(
        "Conv",
        _moved(graph, x, x_spec),
        _moved(graph, kernel, kernel_spec),
        strides=list(map(int, params["window_strides"])),
        pads=list(map(int, before + after)),
        dilations=list(map(int, params["rhs_dilation"])),
        group=int(params["feature_group_count"]),
    )
    return _moved(graph, made, np.argsort(out_spec))


def _moved(graph, x, permutation):
    permutation = [int(each) for each in permutation]
    if permutation == sorted(permutation):
        return x
    if x in graph.initializers:  # a kernel, which is turned now and not at every call
        return graph.constant(graph.initializers[x].transpose(permutation), f"{x}.transposed")
    return graph.add("Transpose", x, perm=permutation)


def pool(op: str) -> Callable:
    """The rule of a largest element, or a sum, over windows."""

    def rule(graph, equation, x):
        params = equation.params
        sizes, strides, padding = (params[key] for key in ("window_dimensions", "window_strides", "padding"))
        dilations = params.get("window_dilation") or [1] * len(sizes)
        space = [i for i in range(len(sizes)) if (sizes[i], strides[i], tuple(padding[i])) != (1, 1, (0, 0))]
        rest = [i for i in range(len(sizes)) if i not in space]
        if len(rest) != 2 or any(each != 1 for each in params.get("base_dilation") or ()):
            raise ConfigError(
                f"the policy cannot be exported: {equation.name!r} over windows {tuple(sizes)} is no pooling of "
                "[R, H, W, C] or [R, L, C]; use flax's max_pool or avg_pool in the network."
            )
        order = [*rest, *space]
        pads = [int(padding[i][0]) for i in space] + [int(padding[i][1]) for i in space]
        attributes = {
            "kernel_shape": [int(sizes[i]) for i in space],
            "strides": [int(strides[i]) for i in space],
            "pads": pads,
        }
        if op == "MaxPool":
            attributes["dilations"] = [int(dilations[i]) for i in space]
        else:
            if any(each != 1 for each in dilations):
                raise ConfigError("the policy cannot be exported: a sum over dilated windows has no rule for ONNX.")
            attributes["count_include_pad"] = 1
        made = graph.add(op, _moved(graph, x, order), **attributes)
        if op == "AveragePool":
            made = graph.add("Mul", made, np.array(np.prod([sizes[i] for i in space]), equation.inputs[0].dtype))
        return _moved(graph, made, np.argsort(order))

    return rule


def gather(graph, equation, x, indices):
    """Looking up: one window, rows of one axis, or one element of each row along one axis."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, places = equation.inputs[0].shape, equation.inputs[1].shape
    collapsed, mapped = tuple(numbers.collapsed_slice_dims), tuple(numbers.start_index_map)
    batching = tuple(numbers.operand_batching_dims)
    if len(places) == 1 and not batching:
        start_of = lambda axis: graph.add("Gather", indices, np.int64(mapped.index(axis)), axis=0)  # noqa: E731
        return graph.reshape(layout.window(graph, x, shape, start_of, sizes), equation.outputs[0].shape, sizes)
    whole = all(
        size == 1 if axis in (*mapped, *batching) else bool(size == shape[axis]) for axis, size in enumerate(sizes)
    )
    if len(mapped) != 1 or collapsed != mapped or not whole:
        raise _no_gather()
    [axis] = mapped
    index = graph.cast(graph.reshape(indices, places[:-1]), np.int64)
    chosen = _inside(graph, index, shape[axis])
    offsets = tuple(numbers.offset_dims)
    if not batching:
        if offsets != tuple(i for i in range(len(equation.outputs[0].shape)) if not axis <= i < axis + len(places) - 1):
            raise _no_gather()
        found = graph.add("Gather", x, chosen, axis=axis)
        fits = lambda: graph.reshape(index, [*[1] * axis, *places[:-1], *[1] * (len(shape) - axis - 1)])  # noqa: E731
    else:
        indexed = tuple(numbers.start_indices_batching_dims)
        if offsets or indexed != batching or batching != tuple(range(len(shape) - 1)) or axis != len(shape) - 1:
            raise _no_gather()
        if len(places) - 1 == len(shape) - 1:  # one of each row
            last = [*places[:-1], 1]
            found = graph.add("GatherElements", x, graph.reshape(chosen, last), axis=axis)
            found = graph.reshape(found, places[:-1])
        else:
            found = graph.add("GatherElements", x, chosen, axis=axis)
        fits = lambda: index  # noqa: E731
    if equation.params["fill_value"] is None or equation.inputs[0].dtype != np.float32:
        return found
    # What lies outside is not a number, as jax.numpy has it.
    inside = graph.add("Equal", fits(), _inside(graph, fits(), shape[axis]))
    return graph.add("Where", inside, found, np.array(equation.params["fill_value"], np.float32))


def _inside(graph, index, size):
    """The index, moved into [0, size)."""
    last = graph.reshape(graph.add("Sub", graph.shape([size]), graph.ints(1)), [])
    return graph.add("Min", graph.add("Max", index, np.int64(0)), last)


def _no_gather():
    return ConfigError(
        "the policy cannot be exported: it looks up (lax.gather) in a way that has no rule for ONNX; "
        "use jnp.take or jnp.take_along_axis of one axis, or products with jax.nn.one_hot, in the network."
    )


RULES: dict[str, Callable] = {
    "conv_general_dilated": convolution,
    "dot_general": dot_general,
    "gather": gather,
    "reduce_window_max": pool("MaxPool"),
    "reduce_window_sum": pool("AveragePool"),
}
