"""Compiles for a GPU that is not here, and counts what it would launch.

XLA compiles for NVIDIA's GPUs on any machine, if it is told of which kind they are; what comes out is the program that
a machine with such a GPU runs, but for the kernels of matrix products, among which it would choose by trying them.
"""

import math
import os
import re
import sys
from typing import NamedTuple

from benchmarks import report

# What XLA has to know of an H200, as it is told in https://github.com/openxla/xla,
# xla/backends/gpu/target_config/specs/h200.txtpb.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 151397597184
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H200 141GB HBM3e"
"""

# Names and views of what is there, for which nothing is launched.
FREE = {"after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter", "tuple"}
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}  # or 4


class Work(NamedTuple):
    """What a program has a GPU do."""

    kernels: float = 0.0  # launched, one after the other
    bytes: float = 0.0  # of what they read and write
    products: float = 0.0  # floating-point operations of matrix products, two a multiply-add

    def __add__(self, other):
        return Work(*map(sum, zip(self, other, strict=True)))

    def times(self, number: float) -> "Work":
        """So many of it."""
        return Work(*(number * each for each in self))


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    shape: str
    operation: str
    operands: list[str]
    line: str

    def names(self, attribute: str) -> str:
        """The computation that it calls so."""
        return re.search(attribute + r"=%?([\w.\-]+)", self.line)[1]


def use(folder: str) -> None:
    """Lets JAX find XLA's compiler for CUDA in a folder; before JAX is imported, which looks for it then."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # nothing is run on a GPU
    sys.path.insert(0, folder)


def mesh(target: str = H200):
    """One device of the kind, which can be compiled for.

    Raises:
        report.Refused: XLA's compiler for CUDA is not installed, and how to.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies

    from jaxrl.host import sharding

    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1")
    except (NotImplementedError, RuntimeError):
        version = jax.__version__
        packages = f"jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version} nvidia-cuda-nvcc-cu12"
        raise report.Refused(
            "XLA's compiler for CUDA is not there; install it by `pip install --no-deps --target runs/cuda "
            f"{packages}`, and give --compiler runs/cuda"
        ) from None
    return jax.sharding.Mesh(np.array(topology.devices), (sharding.AXIS,))


def compiled(function, arguments, mesh) -> str:
    """The program of a jitted function of abstract arguments, as XLA writes it down.

    Matrix products are not tried out, of which there is no saying where there is no GPU.
    """
    import jax

    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments)
    lowered = function.trace(*placed).lower(lowering_platforms=("cuda",))
    return lowered.compile({"xla_gpu_autotune_level": 0}).as_text()


def work(text: str, seldom: float = 0.0) -> Work:
    """What such a program does.

    A loop counts as often as it turns, or once where that is not known. Of branches the one counts that launches least.

    Args:
        text: of `compiled`.
        seldom: how often a loop turns that turns once or never.
    """
    computations, entry = _parse(text)
    return _of(computations, entry, seldom)


def _parse(text):
    """name -> [Instruction] of all computations, and the name of the one that the program begins with."""
    computations, name, entry = {}, None, None
    for line in text.splitlines():
        if begins := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$", line):
            name = begins[2]
            computations[name] = []
            entry = name if begins[1] else entry
        elif line.startswith("}"):
            name = None
        elif name and (found := re.match(r"\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(([^)]*)\)", line)):
            computations[name].append(Instruction(*found.groups()[:3], re.findall(r"%([\w.\-]+)", found[4]), line))
    return computations, entry


def _of(computations, name, seldom) -> Work:
    shapes = {each.name: each.shape for each in computations[name]}
    return sum((_of_instruction(computations, shapes, each, seldom) for each in computations[name]), Work())


def _of_instruction(computations, shapes, each, seldom) -> Work:
    if each.operation in FREE:
        return Work()
    if each.operation == "while":
        return _of(computations, each.names("body"), seldom).times(_turns(computations, each, seldom))
    if each.operation == "call":
        return _of(computations, each.names("to_apply"), seldom)
    if each.operation == "conditional":
        listed = re.search(r"(?:branch_computations=\{|true_computation=)([^}]*)", each.line)[1]
        return min(_of(computations, branch, seldom) for branch in re.findall(r"%([\w.\-]+)", listed))
    products = _products(shapes, each)
    if each.operation == "fusion":
        products = sum(_products(*inner) for inner in _inside(computations, each.names("calls")))
    moved = _bytes(each.shape) + sum(_bytes(shapes[operand]) for operand in each.operands)
    return Work(1.0, moved, products)


def _inside(computations, name):
    """Shapes and instruction of all that a fusion computes, in the fusions within it too."""
    shapes = {each.name: each.shape for each in computations[name]}
    for each in computations[name]:
        yield shapes, each
        if each.operation == "fusion":
            yield from _inside(computations, each.names("calls"))


def _turns(computations, loop, seldom) -> float:
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.line):
        return float(known[1])
    asked = computations[loop.names("condition")][-1]  # nothing is computed to ask whether to turn once
    return seldom if asked.operation == "get-tuple-element" else 1.0


def _products(shapes, each) -> float:
    if each.operation != "dot":
        return 0.0
    left = _lengths(shapes[each.operands[0]])
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.line)[1]
    return 2.0 * math.prod(_lengths(each.shape)) * math.prod(left[int(axis)] for axis in axes.split(",") if axis)


def _lengths(shape):
    return [int(length) for length in re.search(r"\[([\d,]*)\]", shape)[1].split(",") if length]


def _bytes(shape) -> float:
    """Of an array or a tuple of arrays."""
    return float(
        sum(
            SIZES.get(kind, 4) * math.prod(int(length) for length in lengths.split(",") if length)
            for kind, lengths in re.findall(r"(\w+)\[([\d,]*)\]", shape)
        )
    )
