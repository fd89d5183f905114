"""Predicts the share of the physics on an H200 from counted work: kernels, bytes and products.

XLA compiles the programs for an H200, which it does on any machine (benchmarks/ahead.py), and what they would launch,
move and multiply is counted. An iteration takes

    seconds = kernels x seconds a launch + bytes / (bytes/s) + products / (FLOP/s)

whose three figures are fitted to what was measured on an H200 of physics alone and of Brax's PPO, by least squares of
relative errors. How well they fit stands in the first table. Nothing of jaxrl here is measured. It takes five minutes.
"""

from typing import NamedTuple
from unittest import mock

import numpy as np

from benchmarks import ahead, report
from benchmarks.problem import Problem

EPOCH = 16  # iterations, as long runs have them; before each epoch initial states are drawn
SPRING = Problem("ant", num_envs=4096, unroll_length=8, num_minibatches=1, update_epochs=5, iterations=1)
WIDE = SPRING._replace(num_envs=8192, unroll_length=16, num_minibatches=4, update_epochs=4)
GENERALIZED = SPRING._replace(backend="generalized")
NEEDED = {SPRING: 0.85, WIDE: 0.85, GENERALIZED: 0.92}  # share of the physics
# What was measured on one H200, env steps a second; of Brax's PPO with separate nets.
MEASURED = {
    ("physics", SPRING): 3.84e6,
    ("physics", WIDE): 5.93e6,
    ("physics", SPRING._replace(num_envs=16_384)): 6.85e6,
    ("physics", SPRING._replace(num_envs=65_536)): 8.84e6,
    ("physics", GENERALIZED): 0.71e6,
    ("Brax PPO", SPRING): 2.28e6,
    ("Brax PPO", WIDE): 3.37e6,
    ("Brax PPO", GENERALIZED): 0.53e6,
}


class Device(NamedTuple):
    """What a device takes for its work; of a program's small kernels, and not what its maker says of large ones."""

    launch: float  # seconds a kernel
    bytes: float  # a second
    flops: float  # a second

    def seconds(self, work: ahead.Work) -> float:
        return work.kernels * self.launch + work.bytes / self.bytes + work.products / self.flops


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--compiler", default="", metavar="FOLDER", help="where XLA's compiler for CUDA was installed")


def run(arguments) -> report.Result:
    """Compiles and counts, fits, predicts."""
    if arguments.compiler:
        ahead.use(arguments.compiler)
    mesh = ahead.mesh()
    nets = {"shared": True, "separate": False}
    asked = [*MEASURED, *((net, problem) for problem in NEEDED for net in nets)]
    counted = {}
    for part, problem in asked:
        report.say(f"{part}: compiling {problem.sizes} for an H200 ...")
        counted[part, problem] = count(part, problem, mesh)
    device = fit([counted[each] for each in MEASURED], [seconds(*each) for each in MEASURED])
    shares = {
        (net, problem): device.seconds(counted["physics", problem]) / device.seconds(counted[net, problem])
        for problem in NEEDED
        for net in nets
    }
    ratios = {
        f"PREDICTED {label(problem)}: jaxrl {net} / physics": report.Ratio(share, "≥", NEEDED[problem])
        for (net, problem), share in shares.items()
    }
    names = [f"{label(problem)}, {net}" for net, problem in shares]
    figure = report.Bars(
        "jaxrl on one H200, PREDICTED, not measured", "share of the physics alone", names, *[list(shares.values())] * 3
    )
    data = {
        "device": device._asdict(),
        "counted": [{"part": part, **problem._asdict(), **counted[part, problem]._asdict()} for part, problem in asked],
    }
    return report.Result([calibration(counted, device), prediction(counted, device, shares)], ratios, [figure], data)


def count(part, problem, mesh) -> ahead.Work:
    """What one iteration does: of `physics`, `Brax PPO`, or jaxrl with the nets of that name."""
    import jax

    from benchmarks import compiling
    from benchmarks.systems import brax

    beside = ahead.Work()
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):  # a CPU steps environments in another way
        if part == "physics":
            function, given = compiling.physics(problem)
        elif part == "Brax PPO":
            function, given = brax.epoch(problem)
        else:
            function, given = compiling.epoch(problem, part == "shared", mesh)
            beside = ahead.work(ahead.compiled(*compiling.renewal(problem, mesh), mesh), seldom=1).times(1 / EPOCH)
        text = ahead.compiled(function, given, mesh)
    return ahead.work(text) + beside


def seconds(part, problem) -> float:
    """Of an iteration, as it was measured."""
    return problem.env_steps_per_iteration / MEASURED[part, problem]


def fit(works, seconds) -> Device:
    """By least squares of the relative errors."""
    relative = np.array(works) / np.array(seconds)[:, None]
    (launch, byte, flop), *_ = np.linalg.lstsq(relative, np.ones(len(works)), rcond=None)
    return Device(float(launch), float(1 / byte), float(1 / flop))


def label(problem) -> str:
    return f"{problem.env_name} {problem.backend}, {problem.num_envs} x {problem.unroll_length}"


def calibration(counted, device) -> report.Table:
    """What the model says of what was measured."""
    rows = []
    for part, problem in MEASURED:
        measured, by_model = seconds(part, problem), device.seconds(counted[part, problem])
        row = [f"{part}, {label(problem)}", *cells(counted[part, problem])]
        rows.append([*row, f"{1e3 * measured:.1f}", f"{1e3 * by_model:.1f}", f"{by_model / measured:.2f}"])
    columns = ("measured on an H200", *CELLS, "measured, ms", "by the model, ms", "ratio")
    fitted = f"{1e6 * device.launch:.2f} µs a kernel, {device.bytes / 1e12:.2f} TB/s, {device.flops / 1e12:.0f} TFLOP/s"
    return report.Table(f"calibration: fitted are {fitted}", columns, rows)


def prediction(counted, device, shares) -> report.Table:
    """PREDICTED, not measured."""
    rows = []
    for (net, problem), share in shares.items():
        rest = ahead.Work(*np.subtract(counted[net, problem], counted["physics", problem]))
        row = [f"{label(problem)}, {net}", *cells(rest)]
        times = (device.seconds(rest), device.seconds(counted["physics", problem]))
        rows.append([*row, *(f"{1e3 * each:.2f}" for each in times), f"{share:.2f}", f"{NEEDED[problem]:.2f}"])
    columns = ("jaxrl, trunk", *CELLS, "beside the physics, ms", "physics, ms", "share", "needed")
    return report.Table("PREDICTED, not measured: an iteration on one H200, beside the physics", columns, rows)


CELLS = ("kernels", "GB", "GFLOP")


def cells(work) -> list[str]:
    return [f"{work.kernels:,.0f}", f"{work.bytes / 1e9:.2f}", f"{work.products / 1e9:.1f}"]
