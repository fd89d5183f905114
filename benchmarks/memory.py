"""Shows that memory does not grow with total steps.

Trains with jaxrl's own loop, all its writers, evaluations and checkpoints, for four times so many epochs, and
compares the memory held after so many epochs with that at the end. The allocator takes some hundred epochs to settle;
with --env probe/target --epochs 500 they take a few minutes. Linux only.
"""

import importlib.util
import pathlib
import resource
import sys
import tempfile

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report
from benchmarks.problem import Problem

TIMES = 4


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--env", default="inverted_double_pendulum", help="a Brax environment, or suite/name")
    parser.add_argument("--epochs", type=report.count, default=50, help="epochs before the first look")
    parser.add_argument("--tolerance", type=float, default=0.03, help="growth that is allowed, as a share")


def run(arguments) -> report.Result:
    """Trains, then compares."""
    with tempfile.TemporaryDirectory() as folder:
        samples = train(arguments.env, arguments.epochs, pathlib.Path(folder))
    before = highest_lately(samples[: arguments.epochs + 1])
    after = highest_lately(samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    growth = 1024 * (after - before) / ((TIMES - 1) * arguments.epochs)
    rows = [
        [f"resident after {arguments.epochs:,} epochs, MiB", f"{before:.1f}"],
        [f"resident after {TIMES * arguments.epochs:,} epochs, MiB", f"{after:.1f}"],
        ["peak, compiling included, MiB", f"{peak:.1f}"],
        ["growth, KiB an epoch", f"{growth:.1f}"],
    ]
    grown = report.Ratio(after / before, "≤", 1 + arguments.tolerance)
    return report.Result(
        [report.Table(f"memory of a run of {arguments.env}", ("when", "memory"), rows)],
        {f"{arguments.env}: memory after {TIMES} times as many epochs / before": grown},
        [report.Curves("memory of a run", "epoch", "MiB resident", {arguments.env: list(enumerate(samples))})],
        {"samples": samples, "peak": peak},
        failed=not grown.holds,
    )


def train(env_name, epochs, folder):
    """MiB resident after every row of a run of TIMES * epochs short epochs."""
    from benchmarks import rss
    from jaxrl.host import config as configs
    from jaxrl.host import loop

    problem = Problem(env_name)
    suite, _, name = env_name.rpartition("/")
    steps = problem.env_steps_per_iteration
    writers = ["jsonl", "csv"] + ["tensorboard"] * (importlib.util.find_spec("tensorboardX") is not None)
    config = configs.resolve(
        {
            "total_env_steps": TIMES * epochs * steps,
            "epoch_iterations": 1,
            "writers": (*writers, rss.__name__),
            "env": {"suite": suite or "brax", "name": name},
            "network": {"hidden_sizes": problem.hidden_sizes},
            "ppo": {"num_envs": problem.num_envs, "unroll_length": problem.unroll_length},
            "eval": {"interval": max(epochs // 5, 1) * steps, "episodes": 16},
            "checkpoint": {"interval": max(epochs // 5, 1) * steps},
        }
    )
    loop.train(config, folder / "run", sys.argv)
    return [float(line) for line in (folder / "run" / rss.FILE).read_text().split()]


def highest_lately(samples):
    """The highest of the last fifth, into which a checkpoint and an evaluation fall."""
    return max(samples[-max(len(samples) // 5, 1) :])


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["memory", *sys.argv[1:]]))
