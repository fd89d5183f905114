"""Systems that take turns: a machine that is slower for a while is slower for all of them."""

import argparse
import shutil
import statistics
import sys
from typing import NamedTuple

from benchmarks import worker
from benchmarks.problem import Problem
from benchmarks.report import Bars, Table, count, say
from benchmarks.systems import SYSTEMS, System

ONE_THREAD = "_1_thread"  # at the end of a system's name: torch is often quicker so with small nets


class Contestant(NamedTuple):
    """One line of a comparison."""

    system: System
    problem: Problem
    python: str = sys.executable
    environ: dict[str, str] = {}  # of its process


def arguments(parser, systems):
    """The options of a comparison, with the systems that it compares by default."""
    parser.add_argument("--systems", nargs="+", default=systems, choices=systems, metavar="SYSTEM", help="which")
    parser.add_argument("--repeats", type=count, default=5, help="turns that each system takes")
    parser.add_argument("--seconds", type=float, default=5.0, help="the least time that one turn lasts")
    python(parser)


def python(parser):
    """The options that say where peers are found."""
    parser.add_argument(
        "--python", nargs="+", default=[], type=_python, metavar="SYSTEM=PYTHON", help="the Python that runs a system"
    )


def _python(text: str) -> tuple[str, str]:
    system, equals, python = text.partition("=")
    if system not in SYSTEMS or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not SYSTEM=PYTHON, with a system of {', '.join(SYSTEMS)}")
    if not shutil.which(python):
        raise argparse.ArgumentTypeError(f"{python!r} does not run; name the file of a Python that has {system}")
    return system, python


def contestants(names, problem, pythons):
    """The systems of these names on one problem; `pythons` as `--python` gives them."""
    chosen, found = dict(pythons), {}
    for name in names:
        system = name.removesuffix(ONE_THREAD)
        environ = {"OMP_NUM_THREADS": "1"} if name != system else {}
        found[name] = Contestant(SYSTEMS[system], problem, chosen.get(system, sys.executable), environ)
    return found


def measure(contestants, repeats, seconds):
    """Rates of the contestants, all of whom live at the same time and work one after the other.

    Args:
        contestants: name -> Contestant.
        repeats: turns that each takes.
        seconds: the least time that one turn lasts.

    Returns:
        For each name a dict with `rates` (env steps/s, one a turn), `cpu_seconds_per_million_env_steps` (one a turn),
        their medians as `rate` and `cpu_cost`, `peak_rss_mb`, or with `absent` or `failed`, a line that says why.
    """
    results = {name: {"net": each.system.net} for name, each in contestants.items()}
    workers = {}
    try:
        for name, each in contestants.items():
            _start(name, each, workers, results[name])
        for turn in range(repeats):
            say(f"turn {turn + 1} of {repeats}: {', '.join(workers)}")
            order = list(workers)
            # Nobody is always the first, or always behind the same neighbour.
            for name in order if turn % 2 == 0 else reversed(order):
                _take_turn(name, workers, results[name], seconds)
    finally:
        for running in workers.values():
            running.close()
    for result in results.values():
        if measured(result):
            result["rate"] = statistics.median(result["rates"])
            result["cpu_cost"] = statistics.median(result["cpu_seconds_per_million_env_steps"])
    return results


def _start(name, contestant, workers, result):
    system, problem = contestant.system, contestant.problem
    if name == "purejaxrl" and not problem.purejaxrl:
        result["absent"] = system.install
        return
    say(f"{problem.env_name} x {problem.num_envs}: compiling {name} ...")
    try:
        workers[name] = worker.Worker(
            worker.Job(system.module, problem, system.shared), contestant.python, contestant.environ
        )
    except ImportError as error:
        result["absent"] = f"{system.install}  ({error})"
    except worker.WorkerError as error:
        result["failed"] = str(error)
    else:
        result.update(device=workers[name].device, start_seconds=workers[name].start_seconds)
        result.update(rates=[], cpu_seconds_per_million_env_steps=[])


def _take_turn(name, workers, result, seconds):
    try:
        window = workers[name].run(seconds=seconds)
    except worker.WorkerError as error:
        result["failed"] = str(error)
        del workers[name]
    else:
        result["rates"].append(window.rate)
        result["cpu_seconds_per_million_env_steps"].append(window.cpu_cost)
        result["peak_rss_mb"] = window.peak_rss_mb


def measured(result) -> bool:
    """Whether a contestant took all its turns."""
    return "failed" not in result and bool(result.get("rates"))


def ratio(results, name, *others):
    """How many times the rate of the fastest of the others one has.

    The median over the turns of the ratios of one turn, not a ratio of medians: what slows a turn slows both.

    Returns:
        None where one of them was not measured; of several others, those that were measured count.
    """
    rates = [results[other]["rates"] for other in others if measured(results.get(other, {}))]
    if not rates or not measured(results.get(name, {})):
        return None
    pairs = zip(results[name]["rates"], zip(*rates, strict=True), strict=True)
    return statistics.median(mine / max(theirs) for mine, theirs in pairs)


def table(title, results, against):
    """One contestant a row.

    Args:
        title: what was measured.
        results: as `measure` gives them.
        against: header of a column -> the contestant that the others are divided by in it.
    """
    rows = []
    for name, result in results.items():
        if not measured(result):
            why = f"not installed: {result['absent']}" if "absent" in result else f"failed: {result.get('failed')}"
            rows.append([name, result["net"], why, *[""] * (2 + len(against))])
            continue
        shares = [ratio(results, name, other) for other in against.values()]
        spread = f"{min(result['rates']):,.0f} - {max(result['rates']):,.0f}"
        told = ["" if share is None else f"{share:.2f}" for share in shares]
        rows.append([name, result["net"], f"{result['rate']:,.0f}", spread, *told, f"{result['cpu_cost']:.1f}"])
    return Table(title, ("system", "net", "env steps/s", "min - max", *against, "CPU s/M steps"), rows)


def bars(title, results):
    """The rates of those that were measured."""
    names = [name for name, result in results.items() if measured(result)]
    rates = [results[name]["rates"] for name in names]
    values = [results[name]["rate"] for name in names]
    return Bars(title, "env steps a second", names, values, list(map(min, rates)), list(map(max, rates)))
