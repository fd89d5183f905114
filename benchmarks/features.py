"""What each feature costs of an epoch.

What is compiled: an iteration with all features and one without one of them, in turns of whole, less, less, whole, so
that a machine that grows slower does so for both; the cost is the median over the turns of how much longer the whole
takes. Where a program and its arrays happen to lie in memory makes 3 % of its time, so each is there several times,
and the turns go round. What happens on the host: one run whose epochs, in turns, have none of it, or the guard, or
all files of metrics, or a checkpoint each. It takes the same time between short epochs as between long ones, so they
are of one iteration here, and the cost is a share of epochs of eight. Turns are short and many, for a machine that is
shared is fast and slow for seconds; beside each cost stands the standard error of its median. Logging and saving
together are a row of each epoch and a checkpoint of every tenth, the most that a run has by default.
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
EPOCHS = 4  # of each way in a turn, of a run
INSTANCES = 6  # of each program and its state


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--env", default="ant", help="of Brax")
    parser.add_argument("--num_envs", type=report.count, default=Problem("").num_envs, help="environments")
    parser.add_argument("--turns", type=report.count, default=60, help="of each way")


def run(arguments) -> report.Result:
    """Measures what is compiled, then what happens on the host."""
    from jaxrl.host import program

    program.use_compilation_cache()
    problem = Problem(arguments.env, num_envs=arguments.num_envs)
    short = problem._replace(iterations=1)
    costs = compiled(short, arguments.turns)
    costs |= on_the_host(short, arguments.turns, problem.iterations)
    middles = {name: statistics.median(shares) for name, shares in costs.items()}
    rows = [
        [name, f"{middles[name]:+.1%}", f"± {error(shares):.1%}", str(len(shares)), f"{AIMS[name]:.0%}"]
        for name, shares in costs.items()
    ]
    columns = ("feature", "cost", "standard error", "turns", "aim")
    figure = report.Bars(
        f"{problem.sizes}: cost of each feature",
        "per cent of the epoch without it",
        list(costs),
        [100 * middle for middle in middles.values()],
        [100 * (middles[name] - error(shares)) for name, shares in costs.items()],
        [100 * (middles[name] + error(shares)) for name, shares in costs.items()],
    )
    return report.Result(
        [report.Table(f"{problem.sizes}; shares of the time without", columns, rows)],
        {f"{arguments.env}: cost of {name}": report.Ratio(middles[name], "≤", AIMS[name]) for name in costs},
        [figure],
        {"problem": problem._asdict(), "shares": costs},
    )


def compiled(problem, turns):
    """Shares of an iteration's time by feature, one for each turn."""
    import jax

    from jaxrl.acting import rollout
    from jaxrl.acting import statistics as episodes
    from jaxrl.envs import wrappers

    gather = rollout.gather

    def without_final(*arguments):
        seen = gather(*arguments)
        nothing = jax.tree.map(lambda x: x[:0], (seen.final_obs, seen.final_carry))
        return seen._replace(final_obs=nothing[0], final_carry=nothing[1])

    plain = {"ppo.normalize_obs": False, "ppo.normalize_value": False}
    without = {
        "exact truncation": (
            {"ppo.bootstrap": "last_obs"},
            [(rollout, "select", lambda flags, new, old: old), (rollout, "gather", without_final)],
        ),
        "fresh restarts": ({}, [(wrappers, "sometimes", lambda when, change, tree, *rest: tree)]),
        "normalisers": (plain, []),
        "episode statistics": ({}, [(episodes, "update", lambda running, finished, step: (running, finished))]),
    }
    steps = {
        name: [epoch(problem, *less) for _ in range(min(INSTANCES, turns))]
        for name, less in ({"": ({}, [])} | without).items()
    }
    shares = {name: [] for name in without}
    for turn in range(turns):
        for name in without:
            first, *less, last = (timed(steps[each][turn % INSTANCES]) for each in ("", name, name, ""))
            shares[name].append((first + last) / sum(less) - 1)
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


def on_the_host(problem, turns, length):
    """Shares of the time of epochs `length` times as long, by what the loop does between them, one for each turn."""
    import jaxrl
    from jaxrl.host import guard, loop

    ways = ("", "guard", "logging", "saving")
    on = ""  # the one of them that is not left out
    check, write = guard.check, loop.Log.write

    def written(log, *arguments):
        with mock.patch.object(log, "_writers", log._writers if on == "logging" else []):
            return write(log, *arguments)

    patches = (
        (guard, "check", lambda *arguments: check(*arguments) if on == "guard" else None),
        (loop.Log, "write", written),
        (loop.Plan, "is_due", lambda plan, iterations, every: on == "saving" and every == plan.save_every),
    )
    overrides = {"writers": ("jsonl", "csv", "tensorboard"), "checkpoint.interval": problem.env_steps_per_call}
    config = configure(problem, overrides, 1 + (turns + 1) * len(ways) * (EPOCHS + 1))
    times = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for where, name, other in patches:
            stack.enter_context(mock.patch.object(where, name, other))
        rows = loop.iterate(jaxrl.configure(config), pathlib.Path(folder, "run"), [], lambda line: None)
        stack.callback(rows.close)
        next(rows)  # the row of env step 0
        for turn in range(-1, turns):
            for on in ways if turn % 2 else ways[::-1]:
                next(rows)  # of an epoch that was still of the way before
                seconds = timed(lambda: [next(rows) for _ in range(EPOCHS)])
                times[on] += [seconds] if turn >= 0 else []
    pairs = {way: zip(times[way], times[""], strict=True) for way in ways[1:]}
    shares = {way: [(a - b) / (length * b) for a, b in pair] for way, pair in pairs.items()}
    both = zip(shares["logging"], shares["saving"], strict=True)
    return {
        "guard": shares["guard"],
        "logging and saving": [logging + saving / 10 for logging, saving in both],
        "saving every epoch": shares["saving"],
    }


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


def error(shares):
    """The standard error of the median, as of a Gaussian with the same quartiles; 0 of fewer than two."""
    if len(shares) < 2:
        return 0.0
    low, _, high = statistics.quantiles(shares)
    return 1.253 * (high - low) / 1.349 / len(shares) ** 0.5


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["features", *sys.argv[1:]]))
