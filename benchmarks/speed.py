"""Training speed side by side: python benchmarks/speed.py --env ant inverted_double_pendulum --json speed.json

Every system trains PPO on the same Brax environment with the same net and sizes, each in a process of its own, one at a
time. The systems take turns, so that a machine that is slower for a while is slower for all of them; each turn's rates
are divided by the physics-only and the Brax rate of the same turn, and medians are taken over the turns.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import worker
from problem import Problem


class System(NamedTuple):
    """A competitor: a module in `systems/` with the kind of net it trains."""

    module: str
    shared: bool  # one trunk for policy and value
    net: str  # what the table says of it
    install: str  # what a user types when it is absent


SYSTEMS = {
    "physics": System("physics", False, "none", "pip install brax"),
    "jaxrl_shared": System("jaxrl", True, "shared", "pip install -e ."),
    "jaxrl_separate": System("jaxrl", False, "separate", "pip install -e ."),
    "brax": System("brax", False, "separate", "pip install brax==0.14.2"),
    "rl_games": System("rl_games", True, "shared", "pip install torch rl_games==1.6.5"),
    "purejaxrl": System(
        "purejaxrl",
        False,
        "separate",
        "pip install distrax gymnax; git clone https://github.com/luchris429/purejaxrl; --purejaxrl PATH",
    ),
}
PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "brax", "mujoco-mjx", "torch", "rl_games", "distrax", "gymnax")


def main(arguments=None):
    arguments = _parse(arguments)
    report = {
        "command": shlex.join([pathlib.Path(sys.executable).name, *sys.argv]),
        "machine": _machine(),
        "versions": _versions(),
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "environments": {},
    }
    failed = False
    for env_name in arguments.env:
        problem = Problem(env_name=env_name, purejaxrl=arguments.purejaxrl)
        results = measure(problem, arguments.systems, arguments.repeats, arguments.seconds)
        failed |= any("failed" in result for result in results.values())
        report["environments"][env_name] = {
            "problem": problem._asdict(),
            "load_average_after": os.getloadavg(),
            "systems": results,
        }
        print(f"\n{table(problem, results, arguments.repeats)}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if failed else 0


def measure(problem, names, repeats, seconds):
    """Rates of the systems on one problem.

    Args:
        problem: a problem.Problem.
        names: keys of SYSTEMS.
        repeats: turns that each system takes.
        seconds: the least time that one turn lasts.

    Returns:
        For each name a dict with `rates` (env steps/s, one a turn), medians and ratios, or with `absent` or `failed`.
    """
    results = {name: {"net": SYSTEMS[name].net} for name in names}
    workers = {}
    try:
        for name in names:
            _start(name, problem, workers, results[name])
        for turn in range(repeats):
            _say(f"{problem.env_name}: turn {turn + 1} of {repeats}")
            order = list(workers)
            # Nobody is always the first, or always behind the same neighbour.
            for name in order if turn % 2 == 0 else reversed(order):
                _take_turn(name, workers, results[name], seconds)
    finally:
        for running in workers.values():
            running.close()
    for result in results.values():
        _summarise(result, results)
    return results


def _start(name, problem, workers, result):
    system = SYSTEMS[name]
    if name == "purejaxrl" and not problem.purejaxrl:
        result["absent"] = system.install
        return
    _say(f"{problem.env_name}: compiling {name} ...")
    try:
        workers[name] = worker.Worker(system.module, system.shared, problem)
    except ImportError as error:
        result["absent"] = f"{system.install}  ({error})"
    except worker.WorkerError as error:
        result["failed"] = str(error)
    else:
        result.update(device=workers[name].device, start_seconds=workers[name].start_seconds)
        result.update(rates=[], cpu_costs=[])


def _take_turn(name, workers, result, seconds):
    try:
        window = workers[name].run(seconds=seconds)
    except worker.WorkerError as error:
        result["failed"] = str(error)
        del workers[name]
    else:
        result["rates"].append(window.rate)
        result["cpu_costs"].append(window.cpu_cost)
        result["peak_rss_mb"] = window.peak_rss_mb


def _summarise(result, results):
    """Adds medians to a result that has rates; ratios are medians over the turns, not ratios of medians."""
    if "failed" in result or not result.get("rates"):
        return
    rates = result["rates"]
    result.update(median=statistics.median(rates), min=min(rates), max=max(rates))
    result["cpu_seconds_per_million_env_steps"] = statistics.median(result.pop("cpu_costs"))
    for key, other in (("share_of_physics", "physics"), ("times_brax", "brax")):
        others = results.get(other, {})
        if "failed" not in others and others.get("rates"):
            pairs = zip(rates, others["rates"], strict=True)
            result[key] = statistics.median(rate / reference for rate, reference in pairs)


def table(problem, results, repeats):
    """The results as text, one system a line."""
    sizes = ", ".join(str(size) for size in problem.hidden_sizes)
    lines = [
        f"{problem.env_name}, Brax {problem.backend}: {problem.num_envs} envs × {problem.unroll_length} steps, "
        f"{problem.num_minibatches} minibatches, {problem.update_epochs} passes, [{sizes}] elu; {repeats} turns",
        f"{'system':<16}{'net':<10}{'env steps/s':>12}{'min - max':>20}{'of physics':>12}{'× Brax':>9}"
        f"{'CPU s/M steps':>15}",
    ]
    for name, result in results.items():
        start = f"{name:<16}{result['net']:<10}"
        if "absent" in result:
            lines.append(f"{start}not installed: {result['absent']}")
        elif "failed" in result:
            lines.append(f"{start}failed: {result['failed']}")
        else:
            spread = f"{result['min']:,.0f} - {result['max']:,.0f}"
            ratios = (f"{result[key]:.2f}" if key in result else "" for key in ("share_of_physics", "times_brax"))
            share, times = ratios
            cost = result["cpu_seconds_per_million_env_steps"]
            lines.append(f"{start}{result['median']:>12,.0f}{spread:>20}{share:>12}{times:>9}{cost:>15.1f}")
    return "\n".join(lines)


def _machine():
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_before": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _cpu_model():
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _versions():
    versions = {"git_commit": _git_commit()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_commit():
    """The commit of this checkout, with `+` where files differ from it; None outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            cwd=worker.FOLDER,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--env", nargs="+", default=["ant", "inverted_double_pendulum"], help="Brax environments")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS, metavar="SYSTEM", help="which")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each system takes")
    parser.add_argument("--seconds", type=float, default=5.0, help="the least time that one turn lasts")
    parser.add_argument("--purejaxrl", default="", metavar="PATH", help="a checkout of PureJaxRL")
    parser.add_argument("--json", type=pathlib.Path, metavar="OUT", help="write the results here too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
