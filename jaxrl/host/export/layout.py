"""Rules of the primitives that move numbers without changing them."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxrl.types import ConfigError


def reshape(graph, equation, x):
    if equation.params.get("dimensions") is not None:
        x = graph.add("Transpose", x, perm=list(equation.params["dimensions"]))
        return graph.reshape(x, equation.outputs[0].shape)
    return graph.reshape(x, equation.outputs[0].shape, equation.inputs[0].shape)


def broadcast_in_dim(graph, equation, x, *sizes):
    """The axes put in their places, then spread."""
    del sizes  # of axes that are only known as it runs; the output has them as well
    shape, places = equation.outputs[0].shape, equation.params["broadcast_dimensions"]
    aligned: list = [1] * len(shape)
    for size, place in zip(equation.inputs[0].shape, places, strict=True):
        aligned[place] = size
    if len(aligned) != len(places):
        x = graph.reshape(x, aligned, equation.inputs[0].shape)
    # Where the axis has its size already, 1 keeps it.
    spread = [1 if _same(size, given) else size for size, given in zip(shape, aligned, strict=True)]
    if all(_same(size, 1) for size in spread):
        return x
    return graph.add("Expand", x, graph.shape(spread))


def transpose(graph, equation, x):
    permutation, shape = equation.params["permutation"], equation.inputs[0].shape
    moved = [axis for axis in permutation if not _same(shape[axis], 1)]
    if moved == sorted(moved):
        return graph.reshape(x, equation.outputs[0].shape, shape)
    return graph.add("Transpose", x, perm=list(permutation))


def concatenate(graph, equation, *inputs):
    return graph.add("Concat", *inputs, axis=int(equation.params["dimension"]))


def stack(graph, equation, *inputs):
    axis = int(equation.params["axis"])
    return graph.add("Concat", *(graph.add("Unsqueeze", x, graph.ints(axis)) for x in inputs), axis=axis)


def unstack(graph, equation, x):
    axis = int(equation.params["axis"])
    count = len(equation.outputs)
    rows = [x] if count == 1 else graph.add("Split", x, graph.ints(*[1] * count), axis=axis, outputs=count)
    return [graph.add("Squeeze", row, graph.ints(axis)) for row in rows]


def tile(graph, equation, x):
    return graph.add("Tile", x, graph.shape(equation.params["reps"]))


def split(graph, equation, x):
    sizes = [int(size) for size in equation.params["sizes"]]
    if len(sizes) == 1:
        return [x]
    return graph.add("Split", x, graph.ints(*sizes), axis=int(equation.params["axis"]), outputs=len(sizes))


def slice_(graph, equation, x):
    shape, params = equation.inputs[0].shape, equation.params
    strides = params["strides"] or [1] * len(shape)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, shape, strict=True)
    cut = [
        (axis, start, stop, step)
        for axis, (start, stop, step, size) in enumerate(bounds)
        if not (_same(start, 0) and _same(stop, size) and step == 1)
    ]
    if not cut:
        return x
    axes, starts, stops, steps = zip(*cut, strict=True)
    return graph.add("Slice", x, graph.shape(starts), graph.shape(stops), graph.ints(*axes), graph.ints(*steps))


def dynamic_slice(graph, equation, x, *starts):
    return window(graph, x, equation.inputs[0].shape, lambda axis: starts[axis], equation.params["slice_sizes"])


def window(graph, x: str, shape: Sequence, start_of: Callable, sizes: Sequence) -> str:
    """Of x, `sizes` from where `start_of` each axis says, which is moved so that it lies inside."""
    axes = [axis for axis, (whole, size) in enumerate(zip(shape, sizes, strict=True)) if not _same(whole, size)]
    for axis in axes:
        last = graph.add("Sub", graph.shape([shape[axis]]), graph.shape([sizes[axis]]))
        start = graph.reshape(graph.cast(start_of(axis), np.int64), [1])
        start = graph.add("Min", graph.add("Max", start, graph.ints(0)), last)
        x = graph.add("Slice", x, start, graph.add("Add", start, graph.shape([sizes[axis]])), graph.ints(axis))
    return x


def squeeze(graph, equation, x):
    return graph.add("Squeeze", x, graph.ints(*equation.params["dimensions"]))


def expand_dims(graph, equation, x):
    return graph.add("Unsqueeze", x, graph.ints(*equation.params["dimensions"]))


def reverse(graph, equation, x):
    axes = equation.params["dimensions"]
    ones, far = [-1] * len(axes), [np.iinfo(np.int64).min] * len(axes)
    return graph.add("Slice", x, graph.ints(*ones), graph.ints(*far), graph.ints(*axes), graph.ints(*ones))


def pad(graph, equation, x, filling):
    low, high, inside = zip(*equation.params["padding_config"], strict=True)
    if any(inside):
        raise ConfigError(
            "the policy cannot be exported: it pads between elements (lax.pad), which ONNX does not; pad around them."
        )
    # Negative numbers cut off, in both.
    return graph.add("Pad", x, graph.ints(*map(int, low + high)), filling, mode="constant")


def iota(graph, equation, *sizes):
    """0, 1, 2, ... along one axis."""
    del sizes
    output, axis = equation.outputs[0], equation.params["dimension"]
    limit = graph.reshape(graph.shape([output.shape[axis]]), [])
    count = graph.add("Range", np.int64(0), limit, np.int64(1))
    aligned = graph.reshape(
        graph.cast(count, output.dtype), [s if i == axis else 1 for i, s in enumerate(output.shape)]
    )
    return graph.add("Expand", aligned, graph.shape(output.shape))


def size_of(graph, equation):
    """A dimension as a number."""
    size = graph.reshape(graph.shape([equation.params["dim"]]), [])
    return graph.cast(size, equation.outputs[0].dtype)


def _same(a, b) -> bool:
    """Whether two dimensions are equal; N is not 1."""
    return bool(a == b)


RULES: dict[str, Callable] = {
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "dim_as_value": size_of,
    "dimension_as_value": size_of,
    "dynamic_slice": dynamic_slice,
    "expand_dims": expand_dims,
    "iota": iota,
    "pad": pad,
    "reshape": reshape,
    "rev": reverse,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
}
