"""A cost model of data-parallel PPO on many devices: what crosses, how long it takes, what breaks first.

    python benchmarks/scaling.py [--json FILE]

Pure arithmetic: nothing is run, no device is needed. What goes in is measured where MEASURED says so, published where a
link stands, and assumed otherwise; every table that comes out is an estimate. docs/scaling.md reads them.

Letters: D devices, N environments over all of them, T steps of a rollout, B minibatches, E passes, P parameters.
"""

import argparse
import json
import math
from typing import NamedTuple

FLOAT = 4  # bytes

# MEASURED, by issue 6 on one H200: Brax's ant (spring) under random actions, environments -> steps per second.
H200_ANT = {4096: 3.84e6, 8192: 5.93e6, 16384: 6.85e6, 65536: 8.84e6}
# MEASURED there, 8192 x 16, 4 minibatches, 4 passes: what is left of the physics' rate in Brax PPO.
BRAX_SHARE = 0.57
# REQUIRED of jaxrl there, and not measured.
GOAL_SHARE = 0.85
# MEASURED, docs/devices.md: one state of that ant; training keeps an initial state in store beside each.
ANT_STATE = 2540  # bytes
# MEASURED, issue 6: until the first update of Brax PPO on that H200, of which the most is compiling.
COMPILE_SECONDS = 24.0
# ASSUMED: what a step of Adam takes however small the minibatch, some fifty kernels one after the other.
STEP_FLOOR = 150e-6  # seconds


class Link(NamedTuple):
    """How NCCL moves a message one way: seconds before it starts, seconds a step, share of the bandwidth it uses."""

    base: float
    step: float
    share: float


# NCCL's own model, in src/graph/tuning.cc of https://github.com/NVIDIA/nccl at 01afd20a: the tables baseLat and hwLat
# of the ring over NVLink, and of the tree within and between hosts. LL is for small messages, Simple for large ones.
RING = (Link(3.6e-6, 0.47e-6, 1 / 4), Link(8.4e-6, 3.4e-6, 1.0))
TREE = Link(4.4e-6, 0.52e-6, 1 / 3.8)
TREE_NET = 5.0e-6  # seconds a step between hosts
SLOWED = 1.8  # a step within a host, where there are several hosts

NVLINK = 450e9  # bytes/s of an H100 or H200, one way; https://www.nvidia.com/en-us/data-center/h200/ has both ways
INFINIBAND = 8 * 50e9  # bytes/s of a host with eight adapters of 400 Gb/s, one way

# https://jax-ml.github.io/scaling-book/tpus/ and /sharding/: one link, both ways, and the latency of a hop.
HOP = 1e-6  # seconds
TPU_LINK = {"v5e": 9e10, "v5p": 1.8e11}  # bytes/s
TPU_TORUS = {  # D -> chips along each axis
    "v5e": {4: (2, 2), 8: (2, 4), 16: (4, 4), 64: (8, 8), 256: (16, 16)},
    "v5p": {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 64: (4, 4, 4), 256: (4, 8, 8)},
}
WRAPS = {"v5e": 16, "v5p": 4}  # axes that are a multiple of it are rings, the others lines
HOST_CHIPS = {"v5e": 4, "v5p": 4, "H200": 8}


class Workload(NamedTuple):
    """PPO as the config has it."""

    parameters: int  # P
    envs: int  # of one device, N / D
    length: int  # T
    minibatches: int  # B
    passes: int  # E


def parameters(obs: int, actions: int, hidden: tuple[int, ...], shared: bool = False) -> int:
    """P of the built-in network: torsos, a Gaussian's means and one learned vector of deviations, a value."""
    widths = (obs, *hidden)
    torso = sum((into + 1) * out for into, out in zip(widths, hidden, strict=False))
    heads = (hidden[-1] + 1) * actions + actions + hidden[-1] + 1
    return (1 if shared else 2) * torso + heads


def sums_an_iteration(load: Workload) -> tuple[int, int]:
    """(gradients, sums of a few numbers) that cross in one iteration, as tests/host/test_devices.py reads them."""
    steps = load.minibatches * load.passes
    return steps, steps + 8  # 8: moments of observations, values and advantages, and their explained variance


def bytes_an_iteration(load: Workload) -> int:
    """Of gradients that each device gives into sums in one iteration."""
    return sums_an_iteration(load)[0] * FLOAT * load.parameters


def nvlink(devices: int, num_bytes: float) -> float:
    """Seconds of a sum over the GPUs of one host: a ring, of the two protocols the better."""
    if devices == 1:
        return 0.0
    steps = 2 * (devices - 1)
    moved = steps / devices * num_bytes
    return min(link.base + steps * link.step + moved / (link.share * NVLINK) for link in RING)


def infiniband(devices: int, num_bytes: float) -> float:
    """Seconds of a sum over hosts of eight GPUs: chains within each, a tree over all; one host is `nvlink`."""
    hosts = devices // HOST_CHIPS["H200"]
    if hosts <= 1:
        return nvlink(devices, num_bytes)
    within = (HOST_CHIPS["H200"] - 1) * TREE.step * SLOWED
    latency = TREE.base + 2 * (within + math.floor(math.log2(hosts)) * TREE_NET)
    return latency + 2 * num_bytes / (TREE.share * INFINIBAND)


def torus(kind: str, devices: int, num_bytes: float) -> float:
    """Seconds of a sum over a TPU slice: scattered, then gathered, along all axes at once.

    Each half takes bytes / (bandwidth · axes), or the latency of its hops if that is more.
    """
    if devices == 1:
        return 0.0
    axes = [size for size in TPU_TORUS[kind][devices] if size > 1]
    rings = [size % WRAPS[kind] == 0 for size in axes]
    hops = sum(size // 2 if ring else size - 1 for size, ring in zip(axes, rings, strict=True))
    bandwidth = sum(TPU_LINK[kind] if ring else TPU_LINK[kind] / 2 for ring in rings)
    return 2 * max(hops * HOP, num_bytes / bandwidth)


NETWORKS = {
    "H200": infiniband,
    "v5e": lambda devices, num_bytes: torus("v5e", devices, num_bytes),
    "v5p": lambda devices, num_bytes: torus("v5p", devices, num_bytes),
}


def exchange(load: Workload, network: str, devices: int) -> float:
    """Seconds of one iteration in which devices wait for sums. Nothing overlaps: each step of Adam needs its own."""
    gradients, small = sums_an_iteration(load)
    sum_of = NETWORKS[network]
    return gradients * sum_of(devices, FLOAT * load.parameters) + small * sum_of(devices, 64)


def physics_step(envs: float) -> float:
    """Seconds of one step of so many ants on one H200: MEASURED at four sizes, on straight lines between and beyond."""
    points = [(size, size / rate) for size, rate in sorted(H200_ANT.items())]
    pairs = list(zip(points, points[1:], strict=False))
    (left, low), (right, high) = next((pair for pair in pairs if envs <= pair[1][0]), pairs[-1])
    return low + (high - low) * (envs - left) / (right - left)


def compute(load: Workload, share: float) -> float:
    """Seconds of one iteration on one device without any exchange.

    Args:
        load: of which `envs` are on the device.
        share: of the physics' rate that is left at 8192 environments of 16 steps and 16 steps of Adam; what else there
            is goes with the samples, but for the floor of each step of Adam.
    """
    steps = load.minibatches * load.passes
    rest = 16 * physics_step(8192) * (1 / share - 1) - 16 * STEP_FLOOR  # of 8192 x 16 samples
    samples = load.envs * load.length
    return load.length * physics_step(load.envs) + rest * samples / (8192 * 16) + steps * STEP_FLOOR


def weak(load: Workload, network: str, share: float, devices: list[int]) -> list[dict]:
    """The same environments on each device, more and more devices."""
    alone = compute(load, share)
    rows = []
    for number in devices:
        waiting = exchange(load, network, number)
        rows.append({
            "devices": number,
            "envs": number * load.envs,
            "exchange_ms": 1e3 * waiting,
            "iteration_ms": 1e3 * (alone + waiting),
            "steps_per_second": number * load.envs * load.length / (alone + waiting),
            "efficiency": alone / (alone + waiting),
        })  # fmt: skip
    return rows


def strong(load: Workload, envs: int, network: str, share: float, devices: list[int]) -> list[dict]:
    """The same environments over all, fewer on each of more devices."""
    alone = compute(load._replace(envs=envs), share)
    rows = []
    for number in devices:
        mine = load._replace(envs=envs // number)
        working, waiting = compute(mine, share), exchange(mine, network, number)
        rows.append({
            "devices": number,
            "envs_each": mine.envs,
            "physics_ms": 1e3 * mine.length * physics_step(mine.envs),
            "exchange_ms": 1e3 * waiting,
            "iteration_ms": 1e3 * (working + waiting),
            "steps_per_second": envs * mine.length / (working + waiting),
            "speedup": alone / (working + waiting),
        })  # fmt: skip
    return rows


def checkpoint(load: Workload, devices: int, network: str) -> dict:
    """Bytes of one save: parameters with Adam's two moments, and every environment with its initial state in store."""
    agent = 3 * FLOAT * load.parameters
    actors = devices * load.envs * 2 * ANT_STATE
    return {
        "devices": devices,
        "agent": agent,
        "environments": actors,
        "a_host": actors * HOST_CHIPS[network] // devices,
    }


ANT = Workload(parameters(27, 8, (256, 128, 64)), envs=8192, length=16, minibatches=4, passes=4)
POD = [1, 4, 8, 16, 64, 256]


def report() -> dict:
    """All tables."""
    return {
        "workload": ANT._asdict() | {"megabytes_an_iteration": bytes_an_iteration(ANT) / 1e6},
        "sum_microseconds": [
            {"devices": n} | {kind: 1e6 * sum_of(n, FLOAT * ANT.parameters) for kind, sum_of in NETWORKS.items()}
            for n in POD
        ],
        **{f"weak, {kind}, share {GOAL_SHARE}": weak(ANT, kind, GOAL_SHARE, POD) for kind in NETWORKS},
        f"weak, H200, share {BRAX_SHARE}": weak(ANT, "H200", BRAX_SHARE, POD),
        "weak, H200, 512 environments each": weak(ANT._replace(envs=512), "H200", GOAL_SHARE, POD),
        **{
            f"strong, H200, {envs} environments, share {GOAL_SHARE}": strong(
                ANT, envs, "H200", GOAL_SHARE, [1, 2, 4, 8]
            )
            for envs in (8192, 65536)
        },
        "checkpoint bytes": [checkpoint(ANT, n, "H200") for n in (8, 64, 256)],
    }


def table(title: str, rows: list[dict]) -> str:
    """Rows as Markdown."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    shown = [[f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" for value in row.values()] for row in rows]
    lines += ["| " + " | ".join(row) + " |" for row in shown]
    return "\n".join([f"\n{title}\n", *lines])


def main(argv: list[str] | None = None) -> None:
    """Prints the tables; writes them too where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write the tables to")
    arguments = parser.parse_args(argv)
    tables = report()
    for title, rows in tables.items():
        print(table(title, rows if isinstance(rows, list) else [rows]))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(tables, file, indent=1)


if __name__ == "__main__":
    main()
