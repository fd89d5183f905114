"""Predicts the share of the physics on an H200 from counted work: operations, bytes and kernel launches.

An iteration takes the time of its physics, at the measured rate of physics alone, and the time of the rest:

    seconds = products / FLOP/s + kernel bytes / (bytes/s) + kernels x seconds a launch

counted by jaxrl.host.costs in jaxrl's epoch less what is counted in a scan over the steps of Brax's own wrappers. Peers
that train the same nets on the same machine were measured; with how much longer than by this formula these took beside
their physics, the predictions are multiplied. Their counts are jaxrl's, but for the kernels: these are what jaxrl had
at commit f852b50, when its optimiser went through the parameters leaf by leaf, as theirs do. Nothing here is measured
but what the column says is.
"""

import statistics
from typing import NamedTuple
from unittest import mock

from benchmarks import report
from benchmarks.problem import Problem


class Device(NamedTuple):
    """What a maker says of a device, and what a launch costs."""

    name: str
    flops: float  # float32, a second
    bytes: float  # of its memory, a second
    launch: float  # seconds from kernel to kernel in a command buffer


# https://www.nvidia.com/en-us/data-center/h200/: 67 TFLOP/s float32, 4.8 TB/s. A graph's kernels follow each other in 2
# to 3 microseconds where they are small.
H200 = Device("NVIDIA H200", 67e12, 4.8e12, 2.5e-6)


class Row(NamedTuple):
    """A workload whose physics was measured, with the peers that were measured beside it."""

    problem: Problem
    physics: float  # env steps a second
    peers: dict[str, float]  # env steps a second, with separate nets
    peer_kernels: int  # of an iteration of theirs
    needed: float  # share of the physics

    @property
    def label(self) -> str:
        return f"{self.problem.env_name} {self.problem.backend}, {self.problem.num_envs} x {self.problem.unroll_length}"


ROWS = (
    Row(
        Problem("ant", num_envs=4096, unroll_length=8, num_minibatches=1, update_epochs=5, iterations=1),
        3.84e6,
        {"brax": 2.28e6, "purejaxrl": 2.30e6},
        822,
        0.85,
    ),
    Row(
        Problem("ant", num_envs=8192, unroll_length=16, num_minibatches=4, update_epochs=4, iterations=1),
        5.93e6,
        {"brax": 3.37e6, "purejaxrl": 3.53e6},
        2618,
        0.85,
    ),
    Row(
        Problem(
            "ant",
            backend="generalized",
            num_envs=4096,
            unroll_length=8,
            num_minibatches=1,
            update_epochs=5,
            iterations=1,
        ),
        0.71e6,
        {"brax": 0.53e6},
        822,
        0.92,
    ),
)
PARTS = ("products", "kernel_bytes", "kernels")


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--flops", type=float, default=H200.flops, help="float32 operations a second")
    parser.add_argument("--bytes", type=float, default=H200.bytes, help="of memory, a second")
    parser.add_argument("--launch", type=float, default=H200.launch, help="seconds from kernel to kernel")


def run(arguments) -> report.Result:
    """Counts, compares with what was measured of peers, predicts."""
    device = Device("as given", arguments.flops, arguments.bytes, arguments.launch)
    counted = []
    for row in ROWS:
        report.say(f"counting {row.problem.sizes} ...")
        counted.append({name: count(row.problem, shared) for name, shared in (("shared", True), ("separate", False))})
    peers = [each["separate"] | {"kernels": row.peer_kernels} for row, each in zip(ROWS, counted, strict=True)]
    slowness = calibrate(ROWS, peers, device)
    tables = [calibration(peers, device, slowness), prediction(counted, device, slowness)]
    ratios = {}
    for row, each in zip(ROWS, counted, strict=True):
        for net, cost in each.items():
            key = f"PREDICTED {row.label}: jaxrl {net} / physics"
            ratios[key] = report.Ratio(share(row, slowness * seconds(cost, device)), "≥", row.needed)
    data = {
        "device": device._asdict(),
        "slowness": slowness,
        "counted": counted,
        "rows": [each._asdict() for each in ROWS],
    }
    values = [ratio.value for ratio in ratios.values()]
    names = [name.removeprefix("PREDICTED ").partition(" /")[0] for name in ratios]
    title = "jaxrl on one H200, PREDICTED, not measured"
    figure = report.Bars(title, "share of the rate of physics alone", names, values, values, values)
    return report.Result(tables, ratios, [figure], data)


def count(problem, shared) -> dict[str, float]:
    """What one iteration of jaxrl computes beside the physics, as it is traced for a GPU."""
    import jax

    from benchmarks import compiling
    from jaxrl.host import costs

    with mock.patch.object(jax, "default_backend", lambda: "gpu"):  # on a CPU environments are stepped in pieces
        traced = compiling.epoch(problem, shared), compiling.physics(problem)
        whole, physics = (costs.of(function, *given) for function, given in traced)
    return {part: getattr(whole, part) - getattr(physics, part) for part in PARTS}


def seconds(cost, device) -> float:
    """By the makers' figures alone: a lower bound, but that nothing overlaps."""
    return cost["products"] / device.flops + cost["kernel_bytes"] / device.bytes + cost["kernels"] * device.launch


def beside_physics(row, rate) -> float:
    """Seconds of an iteration that are not of the physics, for somebody who trains at that rate."""
    steps = row.problem.env_steps_per_call
    return steps / rate - steps / row.physics


def calibrate(rows, costs, device) -> float:
    """How many times longer than by the makers' figures the peers took: the median over rows and peers."""
    return statistics.median(
        beside_physics(row, rate) / seconds(cost, device)
        for row, cost in zip(rows, costs, strict=True)
        for rate in row.peers.values()
    )


def share(row, rest) -> float:
    """Of the rate of physics alone, if the rest of an iteration takes so many seconds."""
    physics = row.problem.env_steps_per_call / row.physics
    return physics / (physics + rest)


def calibration(costs, device, slowness) -> report.Table:
    """What the model says of peers, beside what was measured of them."""
    rows = []
    for row, cost in zip(ROWS, costs, strict=True):
        by_figures = seconds(cost, device)
        for peer, rate in row.peers.items():
            measured = beside_physics(row, rate)
            rows.append(
                [
                    f"{peer}, {row.label}",
                    f"{1e3 * by_figures:.2f}",
                    f"{1e3 * measured:.2f}",
                    f"{measured / by_figures:.2f}",
                    f"{rate / row.physics:.2f}",
                    f"{share(row, slowness * by_figures):.2f}",
                ]
            )
    columns = ("peer", "by the figures, ms", "measured, ms", "times", "share measured", "share by the model")
    return report.Table(f"calibration: what is not physics takes {slowness:.2f} times the figures' time", columns, rows)


def prediction(counted, device, slowness) -> report.Table:
    """PREDICTED, not measured."""
    rows = []
    for row, each in zip(ROWS, counted, strict=True):
        for net, cost in each.items():
            by_figures = seconds(cost, device)
            rows.append(
                [
                    f"{row.label}, {net}",
                    f"{cost['products'] / 1e9:.1f} ({1e3 * cost['products'] / device.flops:.2f})",
                    f"{cost['kernel_bytes'] / 1e9:.2f} ({1e3 * cost['kernel_bytes'] / device.bytes:.2f})",
                    f"{cost['kernels']:,.0f} ({1e3 * cost['kernels'] * device.launch:.2f})",
                    f"{1e3 * by_figures:.2f}",
                    f"{1e3 * row.problem.env_steps_per_call / row.physics:.2f}",
                    f"{share(row, by_figures):.2f}",
                    f"{share(row, slowness * by_figures):.2f}",
                    f"{row.needed:.2f}",
                ]
            )
    columns = (
        "jaxrl, trunk",
        "products, GFLOP (ms)",
        "bytes, GB (ms)",
        "kernels (ms)",
        "rest by the figures, ms",
        "physics, ms",
        "share by the figures",
        "share, calibrated",
        "needed",
    )
    return report.Table("PREDICTED, not measured: an iteration on one H200", columns, rows)
