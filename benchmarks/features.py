"""What each feature costs of an epoch.

The same training with all features and without one of them, in turns; the cost is the median over the turns of how
much longer the whole takes. What is compiled is timed by the epoch; what happens on the host by whole runs. Logging and
saving (all files of metrics, ten checkpoints) are compared with a run that does neither, evaluates nothing and prints
nothing; saving every epoch too.
"""

import contextlib
import pathlib
import statistics
import sys
import tempfile
import time
from unittest import mock

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report
from benchmarks.problem import Problem

AIMS = {
    "exact truncation": 0.03,
    "fresh restarts": 0.05,
    "normalisers": 0.02,
    "episode statistics": 0.01,
    "guard": 0.01,
    "logging and saving": 0.02,
    "saving every epoch": 0.05,
}


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--env", default="ant", help="of Brax")
    parser.add_argument("--num_envs", type=int, default=Problem("").num_envs, help="environments")
    parser.add_argument("--turns", type=int, default=15, help="of each way, for what is compiled")
    parser.add_argument("--runs", type=int, default=3, help="of each way, for what happens on the host")
    parser.add_argument("--epochs", type=int, default=20, help="of such a run")


def run(arguments) -> report.Result:
    """Measures what is compiled, then what happens on the host."""
    from jaxrl.host import program

    program.use_compilation_cache()
    problem = Problem(arguments.env, num_envs=arguments.num_envs)
    costs = compiled(problem, arguments.turns) | on_the_host(problem, arguments.runs, arguments.epochs)
    middles = {name: statistics.median(shares) for name, shares in costs.items()}
    rows = [
        [name, f"{middles[name]:+.1%}", f"{min(shares):+.1%} to {max(shares):+.1%}", f"{AIMS[name]:.0%}"]
        for name, shares in costs.items()
    ]
    figure = report.Bars(
        f"{problem.sizes}: cost of each feature",
        "per cent of the epoch without it",
        list(costs),
        [100 * middle for middle in middles.values()],
        [100 * min(shares) for shares in costs.values()],
        [100 * max(shares) for shares in costs.values()],
    )
    return report.Result(
        [report.Table(f"{problem.sizes}; shares of the time without", ("feature", "cost", "turns", "aim"), rows)],
        {f"{arguments.env}: cost of {name}": report.Ratio(middles[name], "≤", AIMS[name]) for name in costs},
        [figure],
        {"problem": problem._asdict(), "shares": costs},
    )


def compiled(problem, turns):
    """Shares of an epoch's time by feature, one for each turn."""
    from jaxrl.acting import rollout
    from jaxrl.acting import statistics as episodes
    from jaxrl.envs import wrappers

    plain = {"ppo.normalize_obs": False, "ppo.normalize_value": False}
    without = {
        "exact truncation": ({"ppo.bootstrap": "last_obs"}, [(rollout, "select", lambda flags, new, old: old)]),
        "fresh restarts": ({}, [(wrappers, "sometimes", lambda when, change, tree, *rest: tree)]),
        "normalisers": (plain, []),
        "episode statistics": ({}, [(episodes, "update", lambda running, finished, step: (running, finished))]),
    }
    steps = {"": epoch(problem, {}, [])} | {name: epoch(problem, *less) for name, less in without.items()}
    shares = {name: [] for name in without}
    for turn in range(turns):
        order = list(steps) if turn % 2 else list(steps)[::-1]
        times = {name: timed(steps[name]) for name in order}
        for name in without:
            shares[name].append(times[""] / times[name] - 1)
    return shares


def epoch(problem, overrides, patches):
    """A compiled epoch with its own state, as a function of nothing."""
    import jax
    import numpy as np

    from jaxrl.host import program, sharding

    config = configure(problem, overrides)
    sharding.wake()
    mesh = program.mesh(config)
    with contextlib.ExitStack() as stack:
        for where, name, other in patches:
            stack.enter_context(mock.patch.object(where, name, other))
        programs = program.compile(program.make(config, mesh), mesh, 0)
    states = [programs.init()]
    number = jax.device_put(np.int32(problem.iterations), sharding.replicated(mesh))

    def step():
        state, metrics = programs.epoch(states.pop(), number)
        jax.device_get(metrics)
        states.append(state)

    return step


def on_the_host(problem, turns, epochs):
    """Shares of a run's time by what its loop does between epochs, one for each turn."""
    from jaxrl.host import guard

    every = problem.env_steps_per_call
    writers = ("jsonl", "csv", "tensorboard")
    bare = {"writers": (), "checkpoint.interval": 10**12}
    ways = {
        "": (bare, []),
        "guard": (bare, [(guard, "check", lambda row, config: None)]),
        "logging and saving": ({"writers": writers, "checkpoint.interval": every * epochs // 10}, []),
        "saving every epoch": (bare | {"checkpoint.interval": every}, []),
    }
    shares = {name: [] for name in ways if name}
    for turn in range(turns):
        order = list(ways) if turn % 2 else list(ways)[::-1]
        times = {name: seconds_of(problem, epochs, *ways[name]) for name in order}
        for name in shares:
            ratio = times[name] / times[""]
            shares[name].append((1 / ratio if name == "guard" else ratio) - 1)
    return shares


def seconds_of(problem, epochs, overrides, patches):
    """Seconds of a run's epochs, from the first row that has one."""
    import jaxrl
    from jaxrl.host import loop

    config = configure(problem, overrides, epochs)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for where, name, other in patches:
            stack.enter_context(mock.patch.object(where, name, other))
        began = None
        for row in loop.iterate(jaxrl.configure(config), pathlib.Path(folder, "run"), [], lambda line: None):
            if began is None and row["env_steps"]:
                began = time.perf_counter()
        return time.perf_counter() - began


def configure(problem, overrides, epochs=100):
    import jaxrl

    experiment = {
        "total_env_steps": epochs * problem.env_steps_per_call,
        "epoch_iterations": problem.iterations,
        "env": {"name": problem.env_name, "backend": problem.backend, "episode_length": problem.episode_length},
        "network": {"hidden_sizes": problem.hidden_sizes, "activation": "elu", "shared": True},
        "ppo": {
            "num_envs": problem.num_envs,
            "unroll_length": problem.unroll_length,
            "num_minibatches": problem.num_minibatches,
            "update_epochs": problem.update_epochs,
        },
        "eval": {"episodes": 0},
    }
    return jaxrl.configure(experiment, overrides)


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["features", *sys.argv[1:]]))
