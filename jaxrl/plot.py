"""Draws what runs have learned: training and test, return and length, in four panels of one picture.

python -m jaxrl.plot runs/ant                                 one run; test return with ± std over its episodes
python -m jaxrl.plot runs/ant_seed* --out ant.png             all seeds as one curve with a band
python -m jaxrl.plot runs/*/seed* --group folder              one curve for each parent folder
python -m jaxrl.plot runs/ant runs/ant_lr --group none        one curve for each run
"""

import argparse
import functools
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl.host import history
from jaxrl.types import ConfigError

AGGREGATES = ("mean", "iqm")
GROUPS = ("all", "folder", "none")
IQM_RUNS = 4  # with fewer runs the middle half is all of them
GRID = 400  # points of env steps at which runs are compared
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito: for all eyes
STYLES = ("-", "--", ":")  # when the colours are used up


class Panel(NamedTuple):
    """One of the four pictures."""

    title: str
    keys: tuple[str, ...]  # the first that any run holds is drawn
    units: tuple[str, ...]  # of each key, for the y axis


class Curve(NamedTuple):
    """A line with a band over env steps; all arrays [P]."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    label: str  # of the line
    band: str  # of the band


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


def draw(runs: list[Path], out: Path, aggregate: str | None = None, group: str = "all") -> Path:
    """Draws the four panels into a file.

    Args:
        runs: run folders, each with a metrics.jsonl.
        out: picture to write; its suffix chooses the format (.png, .pdf, .svg).
        aggregate: 'mean' with a band of ± std over runs, or 'iqm', the interquartile mean, with a band from the 25th to
            the 75th percentile of runs; None is iqm from four runs on, mean below.
        group: 'all' makes one curve of all runs, 'folder' one of each parent folder, 'none' one of each run.

    Returns:
        `out`.

    Raises:
        ConfigError: no run folder, no metrics, no env steps in common, or a format that cannot be written.
    """
    if not runs:
        raise ConfigError("no run to draw; name at least one run folder")
    if aggregate not in (None, *AGGREGATES) or group not in GROUPS:
        raise ConfigError(f"aggregate={aggregate!r}, group={group!r}: choose from {AGGREGATES} and {GROUPS}")
    groups = _grouped([Path(run) for run in runs], group)
    figure = _figure(groups, _title(groups), aggregate)
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{out} cannot be written: {error}") from None
    return out


def training(rows: list[dict], title: str = ""):
    """The same four panels of one run, from its rows.

    Args:
        rows: such as `Run.history`, or those that `jaxrl.iterate` has given so far.
        title: above the panels.

    Returns:
        A matplotlib.figure.Figure, which a notebook shows; `.savefig(path)` writes it.

    Raises:
        ConfigError: there is no row.
    """
    if not rows:
        raise ConfigError("no row of metrics to draw; train first")
    figure = _figure({"": {Path(): list(rows)}}, title, None)
    # Without pyplot, nothing else tells a notebook how to show it.
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def main(argv: list[str] | None = None) -> None:
    """The door: draws, and prints where the picture is. An error is one line, and exit status 2."""
    summary, _, examples = __doc__.partition("\n\n")
    parser = _Parser("python -m jaxrl.plot", description=summary, epilog=f"examples:\n{examples}")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, with a metrics.jsonl in it")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="picture to write, also .pdf or .svg (default: RUN/plots/metrics.png, or ./metrics.png of several runs)",
    )
    parser.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        help="how runs become one curve: mean with ± std over runs, or iqm (interquartile mean) with 25-75%% of runs "
        f"(default: iqm from {IQM_RUNS} runs on, mean below)",
    )
    parser.add_argument(
        "--group",
        choices=GROUPS,
        default="all",
        help="which runs share a curve: all of them (default), those in one parent folder, or none",
    )
    arguments = parser.parse_args(argv)
    runs = arguments.runs
    out = arguments.out or (runs[0] / "plots" / "metrics.png" if len(runs) == 1 else Path("metrics.png"))
    try:
        print(draw(runs, out, arguments.aggregate, arguments.group))
    except ConfigError as error:
        parser.error(str(error))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, prog: str, **texts: str):
        super().__init__(prog, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message}\n")


def _grouped(runs: list[Path], group: str) -> dict[str, dict[Path, list[dict]]]:
    """Rows of each run, under the label of its curve."""
    homes = [run.resolve().parent if group == "folder" else run.resolve() for run in runs]
    names = {home: home.name for home in homes}
    if len(set(names.values())) < len(names):  # seed0 of one folder and seed0 of another stay two curves
        names = {home: str(home) for home in homes}
    groups: dict[str, dict[Path, list[dict]]] = {}
    for run, home in zip(runs, homes, strict=True):
        groups.setdefault("" if group == "all" else names[home], {})[run] = _rows(run)
    return groups


def _rows(run: Path) -> list[dict]:
    """The rows of a run; ConfigError where it has none."""
    if not run.is_dir():
        raise ConfigError(f"{run} is no folder; name a run folder, which holds {history.FILE}")
    rows = history.read(run)
    if rows:
        return rows
    inside = sorted(path.parent for path in run.glob(f"*/{history.FILE}"))
    cure = f"did you mean {' '.join(map(str, inside[:3]))}?" if inside else "train into it first"
    raise ConfigError(f"{run} has no metrics in {history.FILE}; {cure}")


def _figure(groups: dict[str, dict[Path, list[dict]]], title: str, aggregate: str | None):
    """The four panels."""
    from matplotlib.figure import Figure  # without pyplot: a notebook's backend and figures stay as they are

    figure = Figure(figsize=(12, 8), dpi=120, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches
    # One range of env steps for all: the first evaluation comes before the first episode ends.
    for axes, panel in zip(figure.subplots(2, 2, sharex=True).flat, PANELS, strict=True):
        _draw_panel(axes, panel, groups, aggregate)
    return figure


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(groups: dict[str, dict[Path, list[dict]]]) -> str:
    names = [run.resolve().name for group in groups.values() for run in group]
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return listed if len(names) == 1 else f"{len(names)} runs: {listed}"


def _draw_panel(axes, panel: Panel, groups: dict[str, dict[Path, list[dict]]], aggregate: str | None) -> None:
    every = [rows for group in groups.values() for rows in group.values()]
    held = [key for key in panel.keys if any(len(history.series(rows, key)[0]) for rows in every)]
    key = held[0] if held else panel.keys[0]
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel("env steps")
    axes.set_ylabel(panel.units[panel.keys.index(key)])
    if not held:
        axes.text(0.5, 0.5, f"no {' or '.join(panel.keys)}\nin these runs", ha="center", va="center", color="0.5",
                  transform=axes.transAxes)  # fmt: skip
        axes.set_yticks([])
    for number, (name, group) in enumerate(groups.items()):
        curve = _curve(list(group.values()), key, aggregate)
        if curve is not None:
            _draw_curve(axes, curve, name, COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)])
    _dress(axes)


def _curve(runs: list[list[dict]], key: str, aggregate: str | None) -> Curve | None:
    """One metric of one group of runs; None where no run holds it."""
    curves = [(x, y) for x, y in (history.series(rows, key) for rows in runs) if len(x)]
    if not curves:
        return None
    if len(curves) == 1:
        rows = next(rows for rows in runs if len(history.series(rows, key)[0]))
        return _single(rows, key)
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if low > high:
        raise ConfigError(f"the runs share no range of env_steps in {key}; draw them with --group none")
    grid = np.linspace(low, high, GRID)
    values = np.stack([np.interp(grid, x, y) for x, y in curves])  # [R, P], R runs
    aggregate = aggregate or ("iqm" if len(curves) >= IQM_RUNS else "mean")
    middle, low, high = _iqm(values) if aggregate == "iqm" else _mean(values)
    label = f"{'IQM' if aggregate == 'iqm' else 'mean'} of {len(curves)} runs"
    return Curve(grid, middle, low, high, label, "25–75% of runs" if aggregate == "iqm" else "± std over runs")


def _single(rows: list[dict], key: str) -> Curve:
    """One run as it is; with ± std over episodes where the rows hold it."""
    x, y = history.series(rows, key)
    spread_x, spread = history.series(rows, f"{key}_std")
    if not np.array_equal(x, spread_x):
        return Curve(x, y, None, None, "", "")
    return Curve(x, y, y - spread, y + spread, "mean", "± std over episodes")


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, and one standard deviation to both sides, over [R, P] runs."""
    middle, spread = values.mean(0), values.std(0)
    return middle, middle - spread, middle + spread


def _iqm(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean, 25th and 75th percentile over [R, P] runs.

    The mean of what is left when ⌊R/4⌋ runs are cut off at both ends, at each of P points:
    Agarwal et al. 2021, section 4.3, https://arxiv.org/abs/2108.13264.
    """
    cut = len(values) // 4
    middle = np.sort(values, axis=0)[cut : len(values) - cut].mean(0)
    low, high = np.percentile(values, (25, 75), axis=0)
    return middle, low, high


def _draw_curve(axes, curve: Curve, name: str, colour: str, style: str) -> None:
    """A line, its band, and what they are; points too where they are few."""
    # One curve: its band has a legend entry of its own. Several: one entry a curve, or the legend hides them.
    label = f"{name}: {curve.label}, {curve.band}".rstrip(":, ") if name else curve.label
    marker = "o" if len(curve.x) <= 30 else None
    axes.plot(curve.x, curve.y, style, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=label or None)
    if curve.low is not None:
        band = None if name else curve.band
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0, label=band)


def _dress(axes) -> None:
    """Readable numbers, quiet lines."""
    from matplotlib.ticker import EngFormatter, FuncFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelbottom=True)
    low, high = axes.get_ylim()
    if max(abs(low), abs(high)) >= 1000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=9, frameon=False, loc="best")


if __name__ == "__main__":
    main()
