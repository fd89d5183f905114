"""Pictures of runs, by matplotlib: four panels of curves, one large curve, aggregates, performance profiles.

Every picture comes with the numbers that it shows, as rows of the columns COLUMNS.
"""

from typing import NamedTuple

import numpy as np

from jaxrl.host import curves, statistics
from jaxrl.host.curves import Curve, Run, View
from jaxrl.types import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito: for all eyes
STYLES = ("-", "--", ":")  # when the colours are used up
COLUMNS = ("figure", "metric", "group", "statistic", "runs", "tasks", "x_name", "x", "y", "low", "high")

Groups = dict[str, list[Run]]


class Panel(NamedTuple):
    """One of the four pictures."""

    title: str
    keys: tuple[str, ...]  # the first that any run holds is drawn
    units: tuple[str, ...]  # of each key, for the y axis


# The panels of TorchRL's PPO tutorial, https://docs.pytorch.org/tutorials/intermediate/reinforcement_ppo.html.
PANELS = (
    Panel(
        "training rewards (average)",
        ("rollout/episode_return", "rollout/reward"),
        ("return per episode", "reward per step"),
    ),
    Panel("Max step count (training)", ("rollout/episode_length_max",), ("steps per episode",)),
    Panel("Return (test)", ("eval/episode_return",), ("return per episode",)),
    Panel("Max step count (test)", ("eval/episode_length_max",), ("steps per episode",)),
)
AGGREGATES = {
    "median": statistics.median,
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "optimality gap": statistics.optimality_gap,
}


def panels(groups: Groups, view: View, metric: str, title: str):
    """The four panels, whatever the metric; (figure, rows)."""
    figure = sheet((12, 8), title)
    rows: list[dict] = []
    # One range of env steps for all: the first evaluation comes before the first episode ends.
    for axes, panel in zip(figure.subplots(2, 2, sharex=True).flat, PANELS, strict=True):
        rows += draw_panel(axes, panel, groups, view)
    return figure, rows


def efficiency(groups: Groups, view: View, metric: str, title: str):
    """The sample-efficiency curve: one metric over what it took to get there; (figure, rows)."""
    figure = sheet((8, 5), title)
    unit = "return per episode" if metric in curves.RETURNS else metric
    rows = draw_panel(figure.subplots(), Panel(metric, (metric,), (unit,)), groups, view)
    return figure, rows


def aggregates(groups: Groups, view: View, metric: str, title: str):
    """Median, IQM, mean and optimality gap of what was reached in the end, with 95 % intervals; (figure, rows).

    Without normalised returns there is no gap: nothing says what could be reached.
    """
    reached = curves.scores(groups, metric, view)
    shown = {name: of for name, of in AGGREGATES.items() if view.scale is not None or name != "optimality gap"}
    figure = sheet((3.2 * len(shown), 1.5 + 0.42 * len(groups)), title)
    rows = []
    for axes, (name, statistic) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        axes.set_title(name, fontsize=11)
        for number, (label, strata) in enumerate(reached.strata.items()):
            value = statistic(strata).item()
            low, high = (bound.item() for bound in statistics.interval(strata, statistic))
            colour, at = COLOURS[number % len(COLOURS)], len(groups) - 1 - number
            axes.use_sticky_edges = False
            axes.margins(x=0.1)
            axes.barh(at, high - low, left=low, height=0.6, color=colour, alpha=0.5)
            axes.plot([value, value], [at - 0.3, at + 0.3], color=colour, linewidth=2.5, solid_capstyle="butt")
            rows.append(_row("aggregates", metric, label, name, strata, view, "", _same(reached.at), value, low, high))
        is_first = axes is figure.axes[0]
        axes.set_yticks(range(len(groups)), [label or "all runs" for label in reversed(groups)] if is_first else [])
        axes.set_ylim(-0.6, len(groups) - 0.4)
        dress(axes)
    figure.supxlabel(f"{_unit(metric, view)}, {_at(reached.at, view)}", fontsize=10)
    return figure, rows


def profile(groups: Groups, view: View, metric: str, title: str):
    """Performance profiles: which share of the runs got above a return in the end; (figure, rows)."""
    reached = curves.scores(groups, metric, view)
    every = np.concatenate([scores for strata in reached.strata.values() for scores in strata])
    low, high = every.min(), every.max()
    margin = 0.05 * ((high - low) or abs(high) or 1.0)
    thresholds = np.linspace(low - margin, high + margin, 201)
    figure, rows = sheet((8, 5), title), []
    axes = figure.subplots()
    for number, (label, strata) in enumerate(reached.strata.items()):
        above = [statistics.above([scores], thresholds)[0] for scores in strata]
        band = statistics.interval(above, statistics.mean)
        many = sum(len(scores) for scores in strata)
        line = Curve(thresholds, statistics.mean(above), *band, f"{many} runs", "95% bootstrap interval")
        _draw_curve(axes, line, label, number)
        for x, y, below, over in zip(*line[:4], strict=True):
            rows.append(_row("profile", metric, label, "share above", strata, view, "threshold", x, y, below, over))
    axes.set_title(f"performance profile {_at(reached.at, view)}", fontsize=11)
    axes.set_xlabel(_unit(metric, view))
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    dress(axes)
    return figure, rows


FIGURES = {"panels": panels, "efficiency": efficiency, "aggregates": aggregates, "profile": profile}


def draw_panel(axes, panel: Panel, groups: Groups, view: View) -> list[dict]:
    """The curves of all groups, over one metric; the numbers that they show."""
    every = [run for runs in groups.values() for run in runs]
    names = [key for key in panel.keys if view.scale is None or key in curves.RETURNS or len(panel.keys) == 1]
    held = [key for key in names if any(len(curves.series(run, key, view)[0]) for run in every)]
    key = held[0] if held else names[0]
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel(curves.AXES[view.axis])
    unit = panel.units[panel.keys.index(key)]
    is_normalized = view.scale is not None and key in curves.RETURNS
    axes.set_ylabel(f"normalized {unit}" if is_normalized else unit)
    rows: list[dict] = []
    if not held:
        return _say(axes, f"no {' or '.join(names)}\nin these runs")
    if view.scale is not None and not all(curves.is_comparable(runs, key, view) for runs in groups.values()):
        return _say(axes, f"{key} is not normalized,\nand a curve has several tasks")
    for number, (name, runs) in enumerate(groups.items()):
        curve = curves.curve(runs, key, view)
        if curve is None:
            continue
        _draw_curve(axes, curve, name, number)
        low, high = (part if part is not None else [None] * len(curve.x) for part in (curve.low, curve.high))
        strata = curves.by_task(runs, [np.zeros(()) for _ in runs])
        for x, y, below, over in zip(curve.x, curve.y, low, high, strict=True):
            statistic = curve.label.split(" of ")[0] or "value"
            rows.append(_row("curve", key, name, statistic, strata, view, view.axis, x, y, below, over))
    dress(axes)
    return rows


def _say(axes, text: str) -> list[dict]:
    """Why there is no curve; no numbers."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color="0.5", transform=axes.transAxes)
    axes.set_yticks([])
    dress(axes)
    return []


def _row(figure, metric, group, statistic, strata, view, x_name, x, y, low, high) -> dict:
    name = f"{metric} (normalized)" if view.scale is not None and metric in curves.RETURNS else metric
    runs = sum(scores.shape[-1] for scores in strata)
    cells = (figure, name, group, statistic, runs, len(strata), x_name or view.axis, x, y, low, high)
    return dict(zip(COLUMNS, cells, strict=True))


def _same(ends: dict[str, float]) -> float | None:
    """The x at which scores were taken, if it is one for all tasks."""
    return next(iter(ends.values())) if len(set(ends.values())) == 1 else None


def _at(ends: dict[str, float], view: View) -> str:
    """'at 60,416 env steps'"""
    at = _same(ends)
    return "at the end that all runs of a task reach" if at is None else f"at {at:,.0f} {curves.AXES[view.axis]}"


def _unit(metric: str, view: View) -> str:
    return f"normalized {metric}" if view.scale is not None and metric in curves.RETURNS else metric


def sheet(size: tuple[float, float], title: str):
    """A figure of so many inches, with nothing on it but its title."""
    from matplotlib.figure import Figure  # without pyplot: a notebook's backend and figures stay as they are

    figure = Figure(figsize=size, dpi=120, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches
    return figure


def _draw_curve(axes, curve: Curve, name: str, number: int) -> None:
    """A line, its band, and what they are; points too where they are few."""
    colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
    # One curve: its band has a legend entry of its own. Several: one entry a curve, or the legend hides them.
    label = f"{name}: {curve.label}, {curve.band}".rstrip(":, ") if name else curve.label
    marker = "o" if len(curve.x) <= 30 else None
    axes.plot(curve.x, curve.y, style, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=label or None)
    if curve.low is not None:
        band = None if name else curve.band
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0, label=band)


def dress(axes) -> None:
    """Readable numbers, quiet lines."""
    from matplotlib.ticker import EngFormatter, FuncFormatter

    if max(map(abs, axes.get_xlim())) >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelbottom=True)
    low, high = axes.get_ylim()
    if max(abs(low), abs(high)) >= 1000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        # A ground of its own: what it covers shines through.
        axes.legend(fontsize=9, frameon=True, framealpha=0.75, edgecolor="none", facecolor="white", loc="best")


def make(name: str, groups: Groups, view: View, metric: str, title: str):
    """A picture of that name and the numbers that it shows: (matplotlib.figure.Figure, rows of COLUMNS).

    Raises:
        ConfigError: there is no such picture, nothing of it can be drawn, or as `curves`.
    """
    if name not in FIGURES:
        raise ConfigError(f"figure={name!r} is not a choice; choose from {', '.join(FIGURES)}")
    return FIGURES[name](groups, view, metric, title)
