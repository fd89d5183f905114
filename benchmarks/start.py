"""Time to the first update: from the start of the process, with an empty cache and with a full one; what is compiled.

`cold` and `warm` are seconds from the birth of a process to the end of its first PPO iteration, with a new folder for
JAX's compilation cache and in a second process with the same folder. jaxrl's are of its compiled programs, without a
run folder and evaluations, as those of the peers are. Then, in processes without a cache, what compiling takes:
jaxrl's epoch, the program that draws initial states before it, which compiles beside it, a scan over the steps of
its environment, and one over the steps of Brax's own wrappers, which draw no initial states.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks import report, turns, worker
from benchmarks.problem import Problem

SYSTEMS = ["jaxrl_shared", "brax", "purejaxrl"]
COMPILED = ("epoch", "renewal", "environment", "physics")
EPOCH = "jit(epoch)"  # jaxrl's, as JAX reports it
WARM_SHARE = 0.25  # of the first start
OVER_PHYSICS = 1.30


def arguments(parser):
    """Adds the options."""
    defaults = Problem("")
    parser.add_argument("--env", default="ant", help="of Brax")
    parser.add_argument("--backend", default=defaults.backend, help="of Brax")
    parser.add_argument("--num_envs", type=report.count, default=defaults.num_envs, help="of the problem")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS, metavar="SYSTEM", help="which")
    parser.add_argument("--repeats", type=report.count, default=3, help="cold and warm starts of each")
    parser.add_argument("--compilations", type=report.count, default=8, help="of each part; one may be a fifth off")
    parser.add_argument("--purejaxrl", default="", metavar="PATH", help="a checkout of PureJaxRL")
    turns.python(parser)


def run(arguments) -> report.Result:
    """Starts every system, then compiles the parts."""
    checkout = arguments.purejaxrl and str(pathlib.Path(arguments.purejaxrl).resolve())
    problem = Problem(
        arguments.env, backend=arguments.backend, num_envs=arguments.num_envs, iterations=1, purejaxrl=checkout
    )
    contestants = turns.contestants(arguments.systems, problem, arguments.python)
    if not checkout:
        contestants.pop("purejaxrl", None)
    starts = {name: [] for name in contestants}
    for turn in range(arguments.repeats):
        for name, each in contestants.items():
            report.say(f"{problem.env_name}: starting {name}, {turn + 1} of {arguments.repeats} ...")
            starts[name].append(start(each))
    parts = {name: [] for name in COMPILED}
    for turn in range(arguments.compilations):
        for name in COMPILED[:: (-1) ** turn]:  # there and back, so that none is always the first
            report.say(f"{problem.env_name}: compiling the {name}, {turn + 1} of {arguments.compilations} ...")
            parts[name].append(compile_alone(name, problem))
    return summarize(problem, starts, parts)


def start(contestant) -> dict:
    """Seconds to the first update, cold and warm, and what was compiled by then and in the two iterations after."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        environ = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        job = worker.Job(contestant.system.module, contestant.problem, contestant.system.shared, warm_up_calls=1)
        for name in ("cold", "warm"):
            try:
                running = worker.Worker(job, contestant.python, environ)
            except (ImportError, worker.WorkerError) as error:
                return {"failed": f"{type(error).__name__}: {error}"}
            first = running.compilations
            running.run(calls=2)
            told[name] = {"seconds": running.start_seconds, "compilations": first, "later": running.compiled()}
            running.close()
    return told


def compile_alone(name, problem) -> dict:
    """Seconds to trace, lower and compile one part in a process of its own, without a cache."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.compiling", name, json.dumps(problem._asdict())],
        stdout=subprocess.PIPE,
        text=True,
        cwd=report.ROOT,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        check=True,
    )
    return json.loads(child.stdout.splitlines()[-1])


def summarize(problem, starts, parts) -> report.Result:
    """Medians over the repeats."""
    rows, ratios, bars = [], {}, {}
    for name, taken in starts.items():
        if failed := [each["failed"] for each in taken if "failed" in each]:
            rows.append([name, failed[0], *[""] * 4])
            continue
        cold, warm = ([each[when]["seconds"] for each in taken] for when in ("cold", "warm"))
        middle = statistics.median(cold), statistics.median(warm)
        share = statistics.median(second / first for first, second in zip(cold, warm, strict=True))
        bars |= {f"{name}, cold": cold, f"{name}, warm": warm}
        first, later = taken[0]["cold"]["compilations"], taken[0]["cold"]["later"]
        rows.append(
            [
                name,
                f"{middle[0]:.1f}",
                f"{middle[1]:.1f}",
                f"{share:.2f}",
                f"{seconds(first):.1f}",
                f"{number(later) - number(first)}",
            ]
        )
        if name.startswith("jaxrl"):
            ratios[f"{problem.env_name}: {name}, second start / first"] = report.Ratio(share, "≤", WARM_SHARE)
            ratios[f"{problem.env_name}: compilations of the epoch of {name}"] = report.Ratio(
                later["functions"][EPOCH][0], "≤", 1
            )
            ratios[f"{problem.env_name}: {name}, compiled after the first update"] = report.Ratio(
                number(later) - number(first), "≤", 0
            )
    columns = ("system", "cold, s", "warm, s", "warm / cold", "of cold compiling, s", "compiled after the first update")
    tables = [report.Table(f"{problem.sizes}; process start to first update", columns, rows)]
    totals = {name: [sum(each.values()) for each in taken] for name, taken in parts.items()}
    for other in ("environment", "physics"):
        pairs = zip(totals["epoch"], totals[other], strict=True)
        over = statistics.median(epoch / physics for epoch, physics in pairs)
        aim = ("≤", OVER_PHYSICS) if other == "physics" else ()
        ratios[f"{problem.env_name}: compiling the epoch / the {other}'s scan"] = report.Ratio(over, *aim)
    stages = list(parts["epoch"][0])
    rows = [
        [name, *(f"{statistics.median(each[stage] for each in taken):.2f}" for stage in stages)]
        + [f"{statistics.median(totals[name]):.2f}"]
        for name, taken in parts.items()
    ]
    tables.append(report.Table("compiling without a cache, s", ("part", *stages, "all"), rows))
    figure = report.Bars(
        f"{problem.env_name}: process start to first update",
        "seconds",
        list(bars),
        [statistics.median(each) for each in bars.values()],
        [min(each) for each in bars.values()],
        [max(each) for each in bars.values()],
    )
    failed = any("failed" in each for taken in starts.values() for each in taken)
    data = {"problem": problem._asdict(), "starts": starts, "parts": parts}
    return report.Result(tables, ratios, [figure], data, failed)


def number(compilations) -> int:
    """How many programs were compiled, or fetched from the cache."""
    return sum(times for times, _ in compilations["functions"].values())


def seconds(compilations) -> float:
    """That compiling took, tracing and lowering included."""
    return compilations["preparing"] + sum(took for _, took in compilations["functions"].values())
