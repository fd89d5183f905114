"""What every benchmark tells: tables for people, JSON with machine and versions, a line of history.

A benchmark is a module of this folder that exports

    arguments(parser)             adds its own options
    run(arguments) -> Result      measures
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
HISTORY = ROOT / "benchmarks" / "history.jsonl"
RESULTS = ROOT / "runs" / "benchmarks"
PACKAGES = (
    "jaxrl",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "brax",
    "mujoco-mjx",
    "torch",
    "rl_games",
    "distrax",
    "gymnax",
    "envpool",
    "gymnasium",
    "stable_baselines3",
)


class Refused(Exception):
    """What was asked for cannot be begun; a line that names the cure."""


def count(text: str) -> int:
    """An option that is a whole number of at least 1, such as of turns; the type of it for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


class Table(NamedTuple):
    """Cells as they are printed; the first column is what the row is of."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


class Ratio(NamedTuple):
    """A number that stays comparable when the machine changes, and what it has to be."""

    value: float
    sense: str = ""  # "≥" or "≤"; "" where nothing is asked for
    needed: float = math.nan

    @property
    def holds(self) -> bool:
        return not self.sense or (self.value >= self.needed if self.sense == "≥" else self.value <= self.needed)


class Bars(NamedTuple):
    """A figure: one bar a name, with the lowest and highest of its turns."""

    title: str
    unit: str
    names: list[str]
    values: list[float]
    lows: list[float]
    highs: list[float]
    kind: str = "bars"


class Curves(NamedTuple):
    """A figure: named curves over the same quantity."""

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]
    is_log: bool = False  # both axes
    kind: str = "curves"


class Result(NamedTuple):
    """What a benchmark has found."""

    tables: list[Table]
    ratios: dict[str, Ratio] = {}
    figures: list[Bars | Curves] = []
    data: dict = {}  # all of it, for the JSON
    failed: bool = False  # something that was asked for could not be measured


def text(result: Result) -> str:
    """The tables in Markdown, columns aligned, and last the ratios with what they have to be."""
    tables = list(result.tables)
    if result.ratios:
        rows = [
            [
                name,
                f"{ratio.value:.3g}",
                f"{ratio.sense} {ratio.needed:g}" if ratio.sense else "",
                ("yes" if ratio.holds else "NO") if ratio.sense else "",
            ]
            for name, ratio in result.ratios.items()
        ]
        tables.append(Table("ratios", ("ratio", "measured", "needed", "holds"), rows))
    return "\n\n".join(map(_table, tables))


def _table(table: Table) -> str:
    grid = [list(table.columns), *table.rows]
    widths = [max(len(row[column]) for row in grid) for column in range(len(table.columns))]
    lines = [
        "| " + " | ".join(_cell(*each) for each in zip(row, widths, range(99), strict=False)) + " |" for row in grid
    ]
    rule = "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths))
    return "\n".join([f"{table.title}\n", lines[0], f"|{rule}|", *lines[1:]])


def _cell(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def stamp(name: str, command: str) -> dict:
    """When, where and by what a benchmark was run; taken before it begins."""
    return {
        "benchmark": name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
    }


def as_json(stamped: dict, result: Result) -> dict:
    """All of a run, as it is written to its file."""
    return stamped | {
        "load_average_after": os.getloadavg(),
        "failed": result.failed,
        "ratios": {name: _plain_ratio(ratio) for name, ratio in result.ratios.items()},
        "tables": [table._asdict() for table in result.tables],
        "figures": [figure._asdict() for figure in result.figures],
        "data": result.data,
    }


def _plain_ratio(ratio: Ratio) -> dict:
    """Without NaN, which JSON does not know."""
    needed = {"sense": ratio.sense, "needed": ratio.needed, "holds": ratio.holds} if ratio.sense else {}
    return {"value": ratio.value, **needed}


def write(report: dict, path: pathlib.Path) -> None:
    """Writes a run's file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    unfinished.replace(path)


def remember(report: dict, path: pathlib.Path) -> None:
    """Appends a run to the history: one line, with no more than what is compared from run to run, and no paths."""
    machine = report["machine"]
    line = {
        "time": report["time"],
        "commit": report["commit"],
        "machine": f"{machine['cores']} cores, {machine['accelerator'] or machine['cpu']}",
        "load": [round(report["machine"]["load_average_before"][0], 2), round(report["load_average_after"][0], 2)],
        "benchmark": report["benchmark"],
        "command": re.sub(r"(?<==)\S*/\S*|(?<= )[/~]\S*", "PATH", report["command"]),  # of `--python SYSTEM=PATH` too
        "failed": report["failed"],
        "ratios": {name: float(f"{ratio['value']:.4g}") for name, ratio in report["ratios"].items()},
    }
    with open(path, "a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def recall(path: pathlib.Path, benchmark: str = "") -> list[dict]:
    """The lines of the history, the oldest first; of one benchmark, or of all."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if benchmark in ("", line["benchmark"])]


def history(lines: list[dict]) -> Table:
    """The development of every ratio, one row a run and ratio."""
    rows = [
        [ratio, f"{value:.3g}", line["time"][:16], (line["commit"] or "")[:8], line["machine"], line["benchmark"]]
        for line in lines
        for ratio, value in line["ratios"].items()
    ]
    order = {row[0]: number for number, row in reversed(list(enumerate(rows)))}
    rows.sort(key=lambda row: order[row[0]])  # stable: within a ratio as they came
    return Table("history", ("ratio", "measured", "time", "commit", "machine", "benchmark"), rows)


def machine() -> dict:
    """What the numbers depend on; the load tells whether others were computing too."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "accelerator": _accelerator(),
        "load_average_before": os.getloadavg(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _accelerator() -> str | None:
    """The names of NVIDIA's GPUs with their drivers, without waking JAX up; None where none is there, or to be used."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return None
    told = _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return told and "; ".join(told.splitlines())


def versions() -> dict[str, str | None]:
    """Of the packages that matter, in the Python that runs this."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """The commit of this checkout, with `+` where files differ from it; None outside of git."""
    return _output(["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"])


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def say(line: str) -> None:
    """Tells how far it is, beside what is printed at the end."""
    print(line, file=sys.stderr, flush=True)
