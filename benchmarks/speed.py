"""Training speed side by side: env steps a second of jaxrl and its peers, and their share of the physics alone.

Every system trains PPO on the same Brax environment with the same net and sizes, each in a process of its own, one at
a time. The systems take turns; each turn's rates are divided by the physics-only rate and the best peer's rate of the
same turn, and medians are taken over the turns. The workloads of a GPU:

    python -m benchmarks speed --env ant --num_envs 4096 --unroll_length 8 --num_minibatches 1 --update_epochs 5
    python -m benchmarks speed --env ant --num_envs 8192 --unroll_length 16 --num_minibatches 4 --update_epochs 4
"""

import os
import pathlib
import sys

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report, turns
from benchmarks.problem import Problem

SYSTEMS = ["physics", "jaxrl_shared", "jaxrl_separate", "brax", "rl_games", "purejaxrl"]
PEERS = {"jaxrl_shared": ("rl_games",), "jaxrl_separate": ("brax", "purejaxrl")}  # that train the same net
SHARES = {"ant": 0.85, "inverted_double_pendulum": 0.50}  # of the physics, that the shared trunk has to reach
TIMES_BEST_PEER = 1.25
SIZES = ("num_envs", "unroll_length", "num_minibatches", "update_epochs", "iterations")


def arguments(parser):
    """Adds the options."""
    defaults = Problem("")
    parser.add_argument("--env", nargs="+", default=["ant", "inverted_double_pendulum"], help="Brax environments")
    parser.add_argument("--backend", default=defaults.backend, help="of Brax")
    for size in SIZES:
        parser.add_argument(f"--{size}", type=report.count, default=getattr(defaults, size), help="of the problem")
    turns.arguments(parser, SYSTEMS)
    parser.add_argument("--purejaxrl", default="", metavar="PATH", help="a checkout of PureJaxRL")


def run(arguments) -> report.Result:
    """Measures one environment after the other."""
    result = report.Result([], {}, [], {})
    failed = False
    for env_name in arguments.env:
        sizes = {size: getattr(arguments, size) for size in SIZES}
        peer = arguments.purejaxrl and str(pathlib.Path(arguments.purejaxrl).resolve())
        problem = Problem(env_name, backend=arguments.backend, purejaxrl=peer, **sizes)
        contestants = turns.contestants(arguments.systems, problem, arguments.python)
        results = turns.measure(contestants, arguments.repeats, arguments.seconds)
        failed |= any("failed" in each for each in results.values())
        title = f"{problem.sizes}; {arguments.repeats} turns"
        result.tables.append(turns.table(title, results, {"of physics": "physics", "× Brax": "brax"}))
        result.ratios.update(ratios(problem, results))
        result.figures.append(turns.bars(title, results))
        result.data[env_name] = {"problem": problem._asdict(), "load": os.getloadavg(), "systems": results}
    return result._replace(failed=failed)


def ratios(problem, results):
    """What has to hold, of what was measured."""
    label = f"{problem.env_name} {problem.backend} {problem.num_envs} x {problem.unroll_length}"
    found = {}
    for name, peers in PEERS.items():
        share, times = turns.ratio(results, name, "physics"), turns.ratio(results, name, *peers)
        if share is not None:
            needed = SHARES.get(problem.env_name) if name == "jaxrl_shared" else None
            aim = ("≥", needed) if needed else ()
            found[f"{label}: {name} / physics"] = report.Ratio(share, *aim)
        if times is not None:
            found[f"{label}: {name} / best of {', '.join(peers)}"] = report.Ratio(times, "≥", TIMES_BEST_PEER)
    return found


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["speed", *sys.argv[1:]]))
