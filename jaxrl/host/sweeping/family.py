"""The picture of a population: its family tree, coloured by score, and the schedules that it has found."""

import re
from pathlib import Path

import numpy as np

from jaxrl.host import history
from jaxrl.host.figures import dress, sheet
from jaxrl.host.sweeping import summary
from jaxrl.host.sweeping.lineage import Lineage
from jaxrl.host.sweeping.sweep import Sweep

NAMED = 24  # members whose names fit beside the tree


def draw(done: Sweep, out: Path) -> Path | None:
    """Draws the population in a folder; None where no member has written anything.

    Above, each member is a line over env steps, coloured by its score; a line from a parent to a copy is an exploit,
    and those that led to the best member are black. Below, the numbers that changed: what the best member knows was
    learned with the black one, its ancestors'.

    Args:
        done: a sweep that was a population; the first of its members are drawn on top.
        out: the file.
    """
    ranges = done.population.ranges
    runs = {row["member"]: history.read(done.workdir / row["member"]) for row in done.table}
    if not any(runs.values()):
        return None
    lineage = Lineage(done.workdir, ranges)
    line = _line_of(lineage, done.best.name, runs) if done.best else []
    height = 1.2 + min(0.28 * len(runs), 9)
    picture = sheet((10, height + 2.6 * len(ranges) + 0.6), f"population of {len(runs)}: {done.workdir.name}")
    every = picture.subplots(
        1 + len(ranges), 1, sharex=True, squeeze=False, height_ratios=[height, *[2.6] * len(ranges)]
    )[:, 0]
    bar = _draw_tree(every[0], lineage, runs, line)
    picture.colorbar(bar, ax=every[0], label=_score_of(runs), fraction=0.04, pad=0.01)
    for axes, name in zip(every[1:], ranges, strict=True):
        _draw_number(axes, name, runs, line, getattr(ranges[name], "kind", "") == "loguniform")
    every[-1].set_xlabel("env steps")
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(out)
    return out


def _line_of(lineage, member, runs):
    """[(member, from, to)] in env steps: who learned when what a member knows, the oldest first."""
    found, begin = [], 0
    for until, name in [*lineage.ancestors(member), (runs[member][-1]["env_steps"] if runs[member] else 0, member)]:
        found.append((name, begin, until))
        begin = until
    return found


def _draw_tree(axes, lineage, runs, line):
    """A line for each member, from its scores; the exploits between them. What the colours mean."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    key = _score_of(runs)
    place = {name: number for number, name in enumerate(runs)}
    points = {name: history.series(rows, key) for name, rows in runs.items()}
    scores = np.concatenate([values[1:] if len(values) > 1 else values for _, values in points.values()])
    # The worst scores are far below the others, as a rule: below the lower decile all are as dark.
    low, high = np.quantile(scores, (0.1, 1.0)) if len(scores) else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1)
    bar = None
    for name, (steps, values) in points.items():
        ends = np.stack([steps[:-1], steps[1:]], axis=-1)
        parts = np.stack([ends, np.full(ends.shape, place[name])], axis=-1)
        bar = axes.add_collection(LineCollection(list(parts), array=values[1:], cmap="viridis", norm=norm, lw=5))
    mine = {(name, until) for name, _, until in line[:-1]}
    heirs = {(child, begin) for child, begin, _ in line[1:]}
    for row in lineage.rows:
        if row.is_copy and row.member in place and row.parent in place:
            is_mine = (row.parent, row.env_steps) in mine and (row.member, row.env_steps) in heirs
            axes.annotate(
                "",
                (row.env_steps, place[row.member]),
                (row.env_steps, place[row.parent]),
                arrowprops={"arrowstyle": "-|>", "lw": 1.6 if is_mine else 0.8, "shrinkA": 0, "shrinkB": 2,
                            "color": "black" if is_mine else "0.6"},
            )  # fmt: skip
    for name, begin, until in line:
        axes.plot([begin, until], [place[name]] * 2, color="black", lw=1.6, zorder=3)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_yticks(range(len(runs)), [_short(name) for name in runs] if len(runs) <= NAMED else [], fontsize=7)
    axes.set_title("who became whose copy; what led to the best member is black", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return bar


def _draw_number(axes, name, runs, line, is_log):
    """One number over env steps, of all members in grey, of the best and its ancestors in black."""
    field = f"hyper/{name.split('.')[-1]}"
    for rows in runs.values():
        axes.plot(*history.series(rows, field), color="0.75", lw=0.8, drawstyle="steps-pre")
    x, y = [], []
    for member, begin, until in line:
        steps, values = history.series(runs[member], field)
        inside = (steps > begin) & (steps <= until)
        x, y = [*x, *steps[inside]], [*y, *values[inside]]
    if x:
        label = "of the best member and its ancestors"
        axes.plot([0, *x], [y[0], *y], color="black", lw=1.8, drawstyle="steps-pre", label=label)
    if is_log:
        axes.set_yscale("log")
    axes.set_ylabel(name)
    dress(axes)


def _score_of(runs):
    """The metric by which members are told apart: the first that any has."""
    held = (key for key in summary.SCORES for rows in runs.values() for row in rows if row.get(key) is not None)
    return next(held, summary.SCORES[0])


def _short(name):
    """A member's name without the groups of its keys."""
    return re.sub(r"(^|,)[a-z_]+\.", r"\1", name)
