"""Environments on the host: EnvPool against rl_games, gymnasium against Stable-Baselines3, same sizes and nets.

The systems take turns, as in `speed`; those in torch twice, with its own choice of threads and with one thread. Needs
the extras [envpool] and [gymnasium]; a peer that is installed elsewhere is named by --python, as in --python
rl_games=PATH stable_baselines3=PATH.
"""

import os

from benchmarks import report, turns
from benchmarks.problem import Problem

TIMES_PEER = 1.2
PAIRS = {
    "envpool": (
        Problem("HalfCheetah-v5", "envpool", "", 64, 64, 8, 5, iterations=1),
        ["jaxrl_shared", "rl_games", f"rl_games{turns.ONE_THREAD}"],
    ),
    "gymnasium": (
        Problem("InvertedDoublePendulum-v5", "gymnasium", "", 64, 32, 4, 4, iterations=1),
        ["jaxrl_separate", "stable_baselines3", f"stable_baselines3{turns.ONE_THREAD}"],
    ),
}


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--suites", nargs="+", default=list(PAIRS), choices=PAIRS, metavar="SUITE", help="which")
    parser.add_argument("--repeats", type=report.count, default=5, help="turns that each system takes")
    parser.add_argument("--seconds", type=float, default=10.0, help="the least time that one turn lasts")
    turns.python(parser)


def run(arguments) -> report.Result:
    """Measures one suite after the other."""
    result = report.Result([], {}, [], {})
    missing = False
    for suite in arguments.suites:
        problem, names = PAIRS[suite]
        results = turns.measure(
            turns.contestants(names, problem, arguments.python), arguments.repeats, arguments.seconds
        )
        missing |= not all(map(turns.measured, results.values()))
        title = f"{problem.sizes}; {arguments.repeats} turns"
        result.tables.append(turns.table(title, results, {f"× {names[1]}": names[1]}))
        result.figures.append(turns.bars(title, results))
        times = turns.ratio(results, *names)
        if times is not None:
            label = f"{problem.env_name} {suite}: {names[0]} / best of {', '.join(names[1:])}"
            result.ratios[label] = report.Ratio(times, "≥", TIMES_PEER)
        result.data[suite] = {"problem": problem._asdict(), "load": os.getloadavg(), "systems": results}
    return result._replace(failed=missing)
