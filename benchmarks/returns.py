"""Wall-clock to a return: Ant (Brax, spring) to a mean return of 3,000 and 5,000, each system by its own tuned recipe.

jaxrl with experiments/ant.py (on a CPU its :fast), Brax's PPO with the settings of Brax's notebook, rl_games with its
ppo_ant.yaml of 1.6.5. All are judged alike: every --interval env steps the deterministic policy plays 128 whole
episodes in environments made by Brax itself, from the same initial states. Three clocks: env steps, seconds of
training, CPU seconds of training; neither evaluating nor compiling is on them, and both are told beside. Runs go one at
a time; each is a file, and a run whose file is finished is not repeated, so that the same command goes on where it was
stopped. jaxrl's are of the commit that they were measured at, and repeated at another.
"""

import itertools
import json
import math
import pathlib
import statistics
import sys

from benchmarks import report, turns, worker
from benchmarks.systems import SYSTEMS as KNOWN

SYSTEMS = {"jaxrl": "jaxrl_shared", "brax": "brax", "rl_games": "rl_games"}  # name -> of benchmarks.systems
CLOCKS = {"env_steps": "env steps", "seconds": "training s", "cpu_seconds": "CPU s"}
COMPILING_CALLS = 2  # in which a system may compile
TIMES = {False: 1.3, True: 3.0}  # how many times faster than a peer, by whether there is an accelerator


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS, metavar="SYSTEM", help="which")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each")
    parser.add_argument("--targets", nargs="+", type=float, default=[3000.0, 5000.0], help="mean returns")
    parser.add_argument("--interval", type=report.count, default=327_680, help="of env steps, between evaluations")
    parser.add_argument("--episodes", type=report.count, default=128, help="of an evaluation")
    parser.add_argument("--max_env_steps", type=report.count, default=50_000_000, help="at which it ends")
    parser.add_argument("--max_seconds", type=float, default=3600.0, help="of training, likewise")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=report.RESULTS / "returns", help="where the file of each run lies"
    )
    turns.python(parser)


def run(arguments) -> report.Result:
    """All runs that are not finished yet, seed by seed, then the table of all."""
    runs = {name: [] for name in arguments.systems}
    for seed, name in itertools.product(arguments.seeds, arguments.systems):
        path = arguments.workdir / f"{name}-{seed}.json"
        if is_finished(path, name, arguments):
            found = json.loads(path.read_text())
            report.say(f"{name}, seed {seed}: measured before, {found['time']}, at {found['commit']}; see --workdir")
        else:
            train(name, seed, dict(arguments.python).get(name, sys.executable), path, arguments)
        runs[name].append(json.loads(path.read_text()))
    return summarize(runs, arguments.targets)


def is_finished(path, name, arguments) -> bool:
    """Whether a run need not be repeated: it has got there, or as far as it may, by the same rules."""
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    if found["rules"] != rules(name, arguments):
        return False
    return bool(found["curve"]) and is_over(found["curve"], arguments)


def rules(name, arguments) -> dict:
    """What makes the curves of two runs of a system comparable."""
    code = {"commit": report.commit()} if name == "jaxrl" else {}
    return {"interval": arguments.interval, "episodes": arguments.episodes, **code}


def is_over(curve, arguments) -> bool:
    """Whether the last target is reached or a limit is."""
    last = curve[-1]
    return (
        last["mean"] >= max(arguments.targets)
        or last["env_steps"] >= arguments.max_env_steps
        or last["seconds"] >= arguments.max_seconds
    )


def train(name, seed, python, path, arguments):
    """One run; its file is renewed at every evaluation."""
    report.say(f"{name}, seed {seed}: compiling ...")
    found = {"system": name, "seed": seed, "rules": rules(name, arguments), **report.stamp("returns", f"{name}-{seed}")}
    found |= {"windows": [], "evaluations": [], "curve": [], "failed": ""}
    job = worker.Job(KNOWN[SYSTEMS[name]].module, seed=seed, interval=arguments.interval, episodes=arguments.episodes)
    try:
        running = worker.Worker(job, python)
        found["start_seconds"] = running.start_seconds
        while not found["curve"] or not is_over(found["curve"], arguments):
            found["windows"].append(running.run()._asdict())
            found["evaluations"].append(running.evaluate())
            found["curve"] = curve(found["windows"], found["evaluations"])
            last = found["curve"][-1]
            report.say(
                f"{name}, seed {seed}: {last['env_steps']:,} env steps, {last['seconds']:,.0f} s: "
                f"{last['mean']:,.0f} ± {last['std']:,.0f}"
            )
            report.write(found, path)
        running.close()
    except (ImportError, worker.WorkerError) as error:
        found["failed"] = f"{type(error).__name__}: {error}"
        report.write(found, path)


def curve(windows, evaluations):
    """What a run had used by each of its evaluations, and what it reached there.

    Args:
        windows: of training before each evaluation, as dicts of worker.Window.
        evaluations: as `Worker.evaluate` gives them.

    Returns:
        A dict for each: `env_steps`, `seconds` and `cpu_seconds` of training so far, `mean` and `std` of the returns.
    """
    steps = itertools.accumulate(window["env_steps"] for window in windows)
    clocks = [itertools.accumulate(without_compiling([window[key] for window in windows])) for key in list(CLOCKS)[1:]]
    return [
        {"env_steps": done, "seconds": seconds, "cpu_seconds": cpu, "mean": told["mean"], "std": told["std"]}
        for done, seconds, cpu, told in zip(steps, *clocks, evaluations, strict=True)
    ]


def without_compiling(times):
    """Times of equal stretches of work, of which the first few compile too: these count no more than the usual one."""
    later = times[COMPILING_CALLS:]
    usual = statistics.median(later) if later else min(times)
    return [min(time, usual) if number < COMPILING_CALLS else time for number, time in enumerate(times)]


def reached(curve, target):
    """The first point of a curve that is at the target; None where it never is."""
    return next((point for point in curve if point["mean"] >= target), None)


def summarize(runs, targets) -> report.Result:
    """Medians over the seeds; a run that did not get there has used infinitely much."""
    rows, ratios = [], {}
    used = {}
    for target, name in itertools.product(targets, runs):
        points = [reached(each["curve"], target) for each in runs[name]]
        used[target, name] = {
            clock: statistics.median(math.inf if point is None else point[clock] for point in points)
            for clock in CLOCKS
        }
        number = sum(point is not None for point in points)
        cells = ["–" if math.isinf(value) else f"{value:,.0f}" for value in used[target, name].values()]
        rows.append([f"{name} to {target:,.0f}", f"{number} of {len(points)}", *cells])
    accelerated = any(each["machine"]["accelerator"] for taken in runs.values() for each in taken)
    for target, name in itertools.product(targets, runs):
        if name == "jaxrl" or "jaxrl" not in runs:
            continue
        for clock, title in CLOCKS.items():
            mine, theirs = used[target, "jaxrl"][clock], used[target, name][clock]
            bound = "" if math.isfinite(theirs) else " (at least: it did not get there)"
            theirs = theirs if bound == "" else statistics.median(spent(each, clock) for each in runs[name])
            if math.isfinite(mine):
                aim = ("≥", TIMES[accelerated]) if clock == "seconds" else ()
                ratios[f"{title} to {target:,.0f}: {name} / jaxrl{bound}"] = report.Ratio(theirs / mine, *aim)
    columns = ("system", "seeds that got there", *CLOCKS.values())
    tables = [report.Table("ant, spring: to a mean return over whole deterministic episodes", columns, rows)]
    tables.append(asides(runs))
    figure = report.Curves(
        "ant, spring: mean return of the deterministic policy",
        "seconds of training",
        "return",
        {
            f"{name}, seed {each['seed']}": [(point["seconds"], point["mean"]) for point in each["curve"]]
            for name, taken in runs.items()
            for each in taken
            if each["curve"]
        },
    )
    failed = any(each["failed"] for taken in runs.values() for each in taken)
    return report.Result(tables, ratios, [figure], {"runs": runs}, failed)


def spent(each, clock):
    """What a run had used when it ended; nothing if it never began."""
    return each["curve"][-1][clock] if each["curve"] else 0.0


def asides(runs):
    """What is not on the clocks, and the rate that is."""
    rows = []
    for name, taken in runs.items():
        for each in taken:
            if each["failed"] or not each["curve"]:
                rows.append([f"{name}, seed {each['seed']}", each["failed"], "", "", ""])
                continue
            last = each["curve"][-1]
            compiling = each["start_seconds"] + sum(window["seconds"] for window in each["windows"]) - last["seconds"]
            evaluating = statistics.median(told["seconds"] for told in each["evaluations"])
            rows.append(
                [
                    f"{name}, seed {each['seed']}",
                    f"{last['env_steps']:,}",
                    f"{last['env_steps'] / last['seconds']:,.0f}",
                    f"{compiling:.0f}",
                    f"{evaluating:.1f}",
                ]
            )
    columns = ("run", "env steps in all", "env steps/s", "start and compiling, s", "one evaluation, s")
    return report.Table("what the clocks leave out", columns, rows)
