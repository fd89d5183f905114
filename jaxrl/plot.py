"""Draws what runs have learned: training and test, return and length, in four panels of one picture.

python -m jaxrl.plot runs/ant                                 one run; test return with ± std over its episodes
python -m jaxrl.plot runs/ant_seed* --out ant.png             seeds of one config: one curve and its interval
python -m jaxrl.plot runs --x wall_time                       all runs in a folder, over seconds
python -m jaxrl.plot runs --group learning_rate --csv ant.csv one curve for each value of a key; its numbers
python -m jaxrl.plot runs --figure efficiency                 one large panel: the sample-efficiency curve
python -m jaxrl.plot runs --figure aggregates --normalize returns.json --group ppo.clip
                                                              median, IQM, mean, optimality gap over several tasks

Several runs are summed up by their IQM, the mean of their middle half, with its 95 % stratified bootstrap interval, as
rliable does (https://arxiv.org/abs/2108.13264). They are compared where all of them have got to: the rest is cut off.
"""

import csv as spreadsheets
import functools
import io
import os
import sys
from pathlib import Path

from jaxrl.doors import Parser, refuse
from jaxrl.host import curves, figures, keys
from jaxrl.host.figures import COLOURS  # noqa: F401  for those who draw beside it
from jaxrl.types import ConfigError

METRIC = "eval/episode_return"


def draw(
    runs: list[Path],
    out: Path,
    aggregate: str | None = None,
    group: str = "config",
    x: str = "env_steps",
    figure: str = "panels",
    normalize: str | dict[str, tuple[float, float]] | None = None,
    metric: str = METRIC,
    csv: Path | None = None,
) -> Path:
    """Draws runs into a file.

    Args:
        runs: run folders, each with a metrics.jsonl, or folders of them.
        out: picture to write; its suffix chooses the format (.png, .pdf, .svg).
        aggregate: 'iqm' (by default), the interquartile mean with its 95 % stratified bootstrap interval, or 'mean'
            with a band of ± std over runs.
        group: which runs share a curve, as `curves.grouped` takes it.
        x: 'env_steps', 'wall_time' (seconds, compiling included) or 'updates'.
        figure: 'panels', 'efficiency' (one metric, large), 'aggregates' (of what was reached) or 'profile'.
        normalize: as `curves.read_scale` takes it, or what it gives: the returns that count as 0 and 1.
        metric: of all figures but 'panels'.
        csv: file to write the numbers to that are drawn, with the columns `figures.COLUMNS`.

    Returns:
        `out`.

    Raises:
        ConfigError: no run folder, no metrics, nothing that the runs have in common, or a file that cannot be written.
    """
    if aggregate not in (None, *curves.AGGREGATES) or x not in curves.AXES:
        raise ConfigError(f"aggregate={aggregate!r}, x={x!r}: choose from {curves.AGGREGATES} and {tuple(curves.AXES)}")
    found = [curves.read(folder) for folder in curves.find_runs(list(runs))]
    scale = curves.read_scale(normalize) if isinstance(normalize, str) else normalize
    groups = curves.grouped(found, group)
    view = curves.View(x, aggregate or curves.AGGREGATES[0], scale)
    picture, rows = figures.make(figure, groups, view, metric, _title(found))
    out = Path(out)
    _write(out, lambda: picture.savefig(out))
    if csv:
        _write(Path(csv), lambda: _export(Path(csv), rows))
    return out


def training(rows: list[dict], title: str = ""):
    """The four panels of one run, from its rows.

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
    figure, _ = figures.panels({"": [curves.Run(Path(), list(rows), {}, "")]}, curves.View(), METRIC, title)
    # Without pyplot, nothing else tells a notebook how to show it.
    figure._repr_png_ = functools.partial(_png, figure)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Runs the command line: draws, and prints where the picture is; the exit status: 0 drawn, 2 bad input."""
    try:
        arguments = _parser().read(sys.argv[1:] if argv is None else argv)
        folders = curves.find_runs(arguments.runs)
        out = arguments.out or (folders[0] / "plots" / "metrics.png" if len(folders) == 1 else Path("metrics.png"))
        choices = (arguments.aggregate, arguments.group, arguments.x, arguments.figure)
        print(draw(folders, out, *choices, arguments.normalize, arguments.metric, arguments.csv))
    except ConfigError as error:
        return refuse(error)
    if arguments.csv:
        print(arguments.csv)
    return 0


def _parser() -> Parser:
    parser = Parser("plot", __doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folder, with a metrics.jsonl in it, or a folder of such"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="picture to write, also .pdf or .svg (default: RUN/plots/metrics.png, or ./metrics.png of several runs)",
    )
    parser.add_argument(
        "--figure",
        choices=list(figures.FIGURES),
        default="panels",
        help="the four panels (default); or, of --metric, one large panel, aggregates (median, IQM, mean, optimality "
        "gap) or a performance profile of what all runs have got to",
    )
    parser.add_argument(
        "--aggregate",
        choices=curves.AGGREGATES,
        help="how runs become one curve: iqm, the interquartile mean with its 95%% stratified bootstrap interval "
        "(default), or mean with ± std over runs",
    )
    parser.add_argument(
        "--group",
        default="config",
        metavar="config|all|folder|none|KEY,...",
        help="which runs share a curve: those whose configs differ in the seed only (default), all of them, those in "
        "one parent folder, none, or those with the same values of keys",
    )
    parser.add_argument("--x", choices=list(curves.AXES), default="env_steps", help="the axis (default: env_steps)")
    parser.add_argument(
        "--normalize",
        metavar="FILE.json|RANDOM,EXPERT",
        help='returns that count as 0 and 1: for all tasks, or {"suite/name": [random, expert]} of each',
    )
    parser.add_argument("--metric", default=METRIC, help=f"of all figures but the four panels (default: {METRIC})")
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="file to write the numbers to that are drawn")
    return parser


def _write(path: Path, how) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        how()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None


def _export(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = spreadsheets.DictWriter(file, figures.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(runs: list[curves.Run]) -> str:
    names = [Path(os.path.abspath(run.folder)).name for run in runs]
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return listed if len(names) == 1 else keys.clip(f"{len(names)} runs: {listed}", 100)


if __name__ == "__main__":
    sys.exit(main())
