"""Trains a policy: python -m jaxrl.train --config=experiments/ant.py --workdir=runs/ant --config.ppo.learning_rate=1e-3

The same command with the same workdir goes on where it stopped. --help tells more.
"""

import importlib
import sys

from jaxrl.doors import refuse
from jaxrl.host import config as configs
from jaxrl.host import guard, processes
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit status: 0 done, 2 bad input, 3 non-finite numbers, 4 another process of the program is gone, 128 + n
        signal n.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = configs.parse_command_line(argv)
        config = configs.resolve(configs.load(arguments.config), arguments.overrides)
        if config.seeds > 1:
            # Not `from jaxrl import sweep`: that is the function of the library.
            sweep = importlib.import_module("jaxrl.sweep")
            return sweep.main([f"--workdir={arguments.workdir}", *argv])
        crew = processes.join(processes.group(arguments.processes))
    except ConfigError as error:
        return refuse(error)
    code = configs.code(arguments.config) if __name__ == "__main__" and _is_command() else None
    return crew.run(lambda: _train(config, arguments.workdir, ["python", "-m", "jaxrl.train", *argv], crew, code))


def _is_command() -> bool:
    """Whether the process began as `python -m jaxrl.train`, and so runs what the files of code say."""
    return sys.orig_argv[-len(sys.argv) - 1 :][:2] == ["-m", "jaxrl.train"]


def _train(config, workdir, command_line, crew, code) -> int:
    from jaxrl.host import loop  # after the config is known to be good: JAX takes seconds to load

    try:
        run = loop.train(config, workdir, command_line, code=code)
    except ConfigError as error:
        return refuse(error)
    except guard.BrokenRunError as error:
        return refuse(error, 3)
    if crew.is_first:
        print(summary(run))
    return 128 + run.signal if run.signal else 0


def summary(run) -> str:
    """One line: what was reached, and how to look at it."""
    from jaxrl import plot

    rows = run.history
    picture = plot.draw([run.workdir], run.workdir / "plots" / "training.png")
    evaluations = [row for row in rows if "eval/episode_return" in row]
    reached = "no evaluation"
    if evaluations:
        last = evaluations[-1]
        reached = (
            f"evaluation return {last['eval/episode_return']:.1f} ± {last['eval/episode_return_std']:.1f} "
            f"over {last['eval/episodes']:.0f} episodes"
        )
    seconds = rows[-1]["wall_seconds"] if rows else 0.0
    return (
        f"{run.env_steps:,} env steps in {seconds:.0f} s: {reached}; curves in {picture}, "
        f"or, with TensorBoard, `tensorboard --logdir {run.workdir / 'tensorboard'}`"
    )


if __name__ == "__main__":
    sys.exit(main())
