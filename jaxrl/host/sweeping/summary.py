"""What came of a sweep: a table of its members, what each setting reached over its seeds, and the best member.

SWEEP/summary.json     settings and members, the best first
SWEEP/summary.csv      the members, a row each
"""

import csv
import io
import json
import math
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.host import checkpoint, history, run_folder, statistics
from jaxrl.host.sweeping.ledger import FORMAT_VERSION, Ledger, write
from jaxrl.host.sweeping.lineage import Lineage
from jaxrl.types import ConfigError

SCORES = (checkpoint.SCORE, "rollout/episode_return")  # the first that a member has is what it is judged by


class Setting(NamedTuple):
    """The members that differ in the seed alone; all of a population, whose settings were but its beginning."""

    changes: dict[str, Any]  # by dotted key, without the seed
    members: list[str]  # their names
    scores: np.ndarray  # [R] of the members that have one
    mean: float  # NaN where none has
    low: float  # the 95 % bootstrap interval of the mean
    high: float
    broken: int  # of its members

    @property
    def label(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.changes.items()) or "all members"


def rows(book: Ledger) -> list[dict]:
    """A row of each member, the best first: its changes, seed, status, env_steps, what it reached last and at best."""
    table = []
    for member in book.members:
        told = book.status(member)
        past = history.read(book.path(member))
        values = _scores(past)
        table.append(
            {
                "member": member.name,
                **{name: value for name, value in member.changes.items() if name != "seed"},
                "seed": member.config.seed,
                "status": told["status"],
                "env_steps": told["env_steps"],
                "return": values[-1].item() if len(values) else None,
                "best_return": values.max().item() if len(values) else None,
                "seconds": past[-1]["wall_seconds"] if past else 0.0,
                "reason": told["reason"],
                **_bred(past),
            }
        )

    def rank(row):
        return row["status"] == "broken", row["return"] is None, -(row["return"] or 0.0)

    return sorted(table, key=rank)


def last_score(folder: Path) -> float:
    """What a member reached last; NaN if it has measured nothing."""
    values = _scores(history.read(folder))
    return values[-1].item() if len(values) else math.nan


def _scores(past) -> np.ndarray:
    """[R] of the rows that have what a member is judged by."""
    score = next((key for key in SCORES if any(row.get(key) is not None for row in past)), SCORES[0])
    return history.series(past, score)[1]


def _bred(past):
    """What a member of a population ends with: its numbers, whose copy it is, how often it became one; else {}."""
    last = past[-1] if past else {}
    return {name: value for name, value in last.items() if name.startswith(("hyper/", "population/"))}


def settings(book: Ledger, table: list[dict]) -> list[Setting]:
    """What was reached with each setting over its seeds, the best mean first; those with a broken member come last."""
    found: dict[str, tuple[dict, list[dict]]] = {}
    by_name = {row["member"]: row for row in table}
    for member in book.members:
        changes = {name: value for name, value in member.changes.items() if name != "seed" and not book.population}
        found.setdefault(repr(changes), (changes, []))[1].append(by_name[member.name])
    result = []
    for changes, own in found.values():
        scores = np.array([row["return"] for row in own if row["return"] is not None], np.float64)
        mean = low = high = np.nan
        if len(scores):
            mean = scores.mean()
            low, high = statistics.interval([scores], statistics.mean)
        broken = sum(row["status"] == "broken" for row in own)
        result.append(
            Setting(changes, [row["member"] for row in own], scores, float(mean), float(low), float(high), broken)
        )
    return sorted(result, key=lambda each: (each.broken > 0, np.isnan(each.mean), -np.nan_to_num(each.mean)))


def best(book: Ledger, table: list[dict], ranked: list[Setting]) -> Path | None:
    """The folder of the best member of the best setting: the luckiest seed of a worse one does not win."""
    for row in table:
        if row["member"] in ranked[0].members and row["return"] is not None:
            return book.folder / row["member"]
    return None


def summarize(book: Ledger) -> tuple[list[dict], list[Setting], Path | None]:
    """Writes summary.csv and summary.json; the members, the settings, the best member's folder."""
    table = rows(book)
    ranked = settings(book, table)
    winner = best(book, table, ranked)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write(book.folder / "summary.csv", text.getvalue())
    told = {
        "format_version": FORMAT_VERSION,
        "best": str(winner.relative_to(book.folder)) if winner else None,
        "settings": [
            {
                "changes": each.changes,
                "members": each.members,
                "return_mean": _finite(each.mean),
                "return_95": [_finite(each.low), _finite(each.high)],
                "broken": each.broken,
            }
            for each in ranked
        ],
        "members": table,
    }
    if book.population:
        lineage = Lineage(book.folder, book.population.ranges)
        told["ancestors"] = {row["member"]: lineage.ancestors(row["member"]) for row in table}
    write(book.folder / "summary.json", json.dumps(told, indent=2, allow_nan=False) + "\n")
    return table, ranked, winner


def text(table: list[dict], ranked: list[Setting], winner: Path | None) -> str:
    """What is printed at the end: the settings with their intervals, the members, the best and what to do with it."""
    is_bred = "population/exploits" in table[0]
    lines = []
    if len(ranked) > 1 or (ranked and len(ranked[0].scores) > 1):
        cells = [
            (
                each.label,
                _number(each.mean),
                f"{_number(each.low)} to {_number(each.high)}" if len(each.scores) > 1 else "",
                str(len(each.scores)) + (f" ({each.broken} broken)" if each.broken else ""),
            )
            for each in ranked
        ]
        lines += _columns(("setting", "mean return", "95 % interval", "seeds"), cells)
        lines.append("")
    numbers = [name for name in table[0] if name.startswith("hyper/")]
    cells = [
        (row["member"], _number(row["return"]), _number(row["best_return"]), f"{row['env_steps']:,}", row["status"],
         *(_number(row.get(name)) for name in numbers), *[str(row.get("population/exploits", 0))] * is_bred)
        for row in table
    ]  # fmt: skip
    head = ("member", "return", "best", "env steps", "status", *numbers, *["copied"] * is_bred)
    lines += _columns(head, cells)
    lines += [f"{row['status']}: {row['member']}: {row['reason']}" for row in table if row["status"] == "broken"]
    if winner:
        quoted = shlex.quote(str(winner))
        lines += [
            "",
            f"best: {winner.name}, config {winner / run_folder.CONFIG}",
            f"  python -m jaxrl.play {quoted}",
        ]
    if winner and not is_bred:  # what a population has found is a schedule, which its member's config does not have
        lines.append(
            f"  python -m jaxrl.train --config={shlex.quote(str(winner / run_folder.CONFIG))} --workdir=runs/best"
        )
    return "\n".join(lines)


def to_pandas(table: list[dict]):
    """The table as a pandas.DataFrame; ConfigError where pandas is not installed."""
    try:
        import pandas
    except ImportError as mistake:
        raise ConfigError(f"a data frame needs pandas ({mistake}); pip install pandas, or take .table.") from None
    return pandas.DataFrame(table)


def _columns(head, cells):
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *cells]]  # fmt: skip


def _number(value):
    return "-" if value is None or not np.isfinite(value) else f"{value:.6g}"


def _finite(value):
    return float(value) if np.isfinite(value) else None
