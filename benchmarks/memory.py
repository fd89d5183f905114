"""Shows that memory does not grow with total steps: python benchmarks/memory.py --epochs 50

Trains with jaxrl's own loop, all its writers, evaluations and checkpoints, for four times so many epochs, and
compares the memory held after so many epochs with that at the end. Exit status 1 if it grew by more than the tolerance.
The allocator takes some hundred epochs to settle; with --env probe/target --epochs 500 they take a few minutes.
Linux only.
"""

import argparse
import importlib.util
import pathlib
import resource
import sys
import tempfile

from problem import Problem

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMES = 4


def main(arguments=None):
    arguments = _parse(arguments)
    # jaxrl, and this folder's writer by its dotted name, are found where this file lies.
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        samples = train(arguments.env, arguments.epochs, pathlib.Path(folder))
    before = highest_lately(samples[: arguments.epochs + 1])
    after = highest_lately(samples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"resident after {arguments.epochs:>6,} epochs: {before:8.1f} MiB")
    print(f"resident after {TIMES * arguments.epochs:>6,} epochs: {after:8.1f} MiB")
    print(f"peak, compiling included:    {peak:8.1f} MiB")
    grew = after - before
    print(f"grew by {grew:.1f} MiB, {1024 * grew / ((TIMES - 1) * arguments.epochs):.1f} KiB an epoch")
    return 1 if grew > arguments.tolerance * before else 0


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


def _parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--env", default="inverted_double_pendulum", help="a Brax environment, or suite/name")
    parser.add_argument("--epochs", type=int, default=50, help="epochs before the first look")
    parser.add_argument("--tolerance", type=float, default=0.03, help="growth that is allowed, as a share")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
