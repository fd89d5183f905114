"""Many runs as few curves: which runs belong together, on which axis they are compared, and what sums them up.

Runs log at their own times and may have got to different ends. Nothing is guessed beyond what was measured: runs of
one curve are compared from the last of their first points to the first of their last ones; what a run did before or
after is cut off. In between, where other runs have a point and this one has none, it counts as on the straight line
between its neighbours.

Letters in shapes: R runs, P points.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl import find
from jaxrl.host import history, keys, run_folder, statistics
from jaxrl.types import ConfigError

AXES = {
    "env_steps": "env steps",
    "wall_time": "seconds of wall time",
    "updates": "updates",
}  # an update is a rollout too
AGGREGATES = ("iqm", "mean")
GROUPS = ("config", "all", "folder", "none")
GRID = 400  # points at most at which runs are compared
RETURNS = ("eval/episode_return", "rollout/episode_return")  # what can be normalised
# Keys in which runs may differ and still be the same experiment: what is logged and kept, not what is done.
SAME = ("seed", "writers", "tracking", "checkpoint", "guard")


class Run(NamedTuple):
    """What a run folder tells."""

    folder: Path
    rows: list[dict]
    config: dict[str, Any]  # by dotted key; empty where there is no config.json
    task: str  # 'suite/name', '' if it is not known


class Curve(NamedTuple):
    """A line with a band; all arrays [P]."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    label: str  # of the line
    band: str  # of the band


class View(NamedTuple):
    """How runs are looked at."""

    axis: str = "env_steps"  # of AXES
    aggregate: str = "iqm"  # of AGGREGATES
    scale: dict[str, tuple[float, float]] | None = None  # returns that count as 0 and 1, by task; '' is any other task


def find_runs(paths: list[Path]) -> list[Path]:
    """Run folders: those given, and all that lie within a folder that is none itself.

    Raises:
        ConfigError: there is no such folder, or no metrics in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder; name a run folder, which holds {history.FILE}")
        inside = [path] if (path / history.FILE).is_file() else sorted(f.parent for f in path.rglob(history.FILE))
        if not inside:
            raise ConfigError(f"{path} has no metrics in {history.FILE}; train into it first")
        found += [run for run in inside if run not in found]
    if not found:
        raise ConfigError("no run to draw; name at least one run folder")
    return found


def read(folder: Path) -> Run:
    """A run's rows and config; ConfigError where it has no rows, or its config.json is no JSON object."""
    rows = history.read(folder)
    if not rows:
        raise ConfigError(f"{folder} has no metrics in {history.FILE}; train into it first")
    path = folder / run_folder.CONFIG
    try:  # read as it stands: a run of another version, or of a part that is not installed, can be drawn all the same
        config = dict(keys.leaves(json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else {}
    except (OSError, ValueError, AttributeError, RecursionError) as mistake:
        raise ConfigError(f"{path} cannot be read ({mistake}); restore the file") from None
    task = f"{config['env.suite']}/{config['env.name']}" if {"env.suite", "env.name"} <= config.keys() else ""
    return Run(folder, rows, config, task)


def grouped(runs: list[Run], group: str) -> dict[str, list[Run]]:
    """The runs of each curve, by its label.

    Args:
        runs: R of them.
        group: 'config' makes one curve of the runs whose configs are the same but for the seed (and what is logged and
            kept), labelled with what differs; 'all' one of all; 'folder' one of each parent folder; 'none' one of each
            run; else keys of the config, 'ppo.learning_rate,env.name': one of each combination of their values.

    Raises:
        ConfigError: no run has such a key; the message has the nearest.
    """
    if group == "all":
        return {"": runs}
    if group in ("folder", "none"):
        places = [Path(os.path.abspath(run.folder)) for run in runs]  # where a link lies, and not what it leads to
        homes = [place.parent for place in places] if group == "folder" else places
        names = {home: home.name for home in homes}
        if len(set(names.values())) < len(names):  # seed0 of one folder and seed0 of another stay two curves
            names = {home: str(home) for home in homes}
        labels = [names[home] for home in homes]
    elif group == "config":
        labels = _labels(runs, [name for name in _differing(runs) if name.split(".")[0] not in SAME])
    else:
        labels = _labels(runs, [_key(runs, name.strip()) for name in group.split(",")])
    members: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels, strict=True):
        members.setdefault(label, []).append(run)
    return members


def _differing(runs: list[Run]) -> list[str]:
    """The keys, sorted, that are not the same in all configs."""
    names = sorted({name for run in runs for name in run.config}, key=lambda name: (not name.startswith("env."), name))
    return [name for name in names if len({repr(run.config.get(name)) for run in runs}) > 1]


def _labels(runs: list[Run], names: list[str]) -> list[str]:
    """What tells a run's group: 'brax/ant, ppo.learning_rate=0.001'. Two runs of other values never share a label."""
    if "env.name" in names or "env.suite" in names:
        names = [name for name in names if name not in ("env.name", "env.suite")]
        suites = {run.config.get("env.suite") for run in runs}
        # Suites have keys of their own: those would only say again that the suite is another.
        names = [name for name in names if not name.startswith("env.") or len(suites) == 1]
        heads = [[run.task] for run in runs]
    else:
        heads = [[] for _ in runs]
    return [
        ", ".join(head + [f"{name}={_short(run.config.get(name))}" for name in names])
        for head, run in zip(heads, runs, strict=True)
    ]


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _key(runs: list[Run], name: str) -> str:
    """The key that a word of --group means."""
    held = {key: key for run in runs for key in run.config}
    found = name if name in held else keys.same_meaning(held, name)
    if not found:
        cure = find.nearest(name, [*GROUPS, *held])
        raise ConfigError(f"--group={name} is neither {', '.join(GROUPS)} nor a key of these runs' configs; {cure}")
    return found


def series(run: Run, key: str, view: View) -> tuple[np.ndarray, np.ndarray]:
    """One metric of one run: x and y, [P] float64 each; none where it was not measured.

    Raises:
        ConfigError: the run does not know its updates, or its task has no scale.
    """
    if view.axis == "wall_time":
        points = [(row["wall_seconds"], row[key]) for row in run.rows if row.get(key) is not None]
        x, y = np.array(points, np.float64).reshape(-1, 2).T
    else:
        x, y = (part.astype(np.float64) for part in history.series(run.rows, key))
        x = x / _env_steps_per_update(run) if view.axis == "updates" else x
    if view.scale is not None and key.removesuffix("_std") in RETURNS:
        low, high = _scale(run, view.scale)
        y = y / (high - low) if key.endswith("_std") else (y - low) / (high - low)
    return x, y


def _env_steps_per_update(run: Run) -> float:
    for row in run.rows:
        if row.get("update/iterations"):
            return row["env_steps"] / row["update/iterations"]
    raise ConfigError(f"{run.folder} has no update/iterations in its metrics; draw it over env_steps or wall_time")


def _scale(run: Run, scale: dict[str, tuple[float, float]]) -> tuple[float, float]:
    for name in (run.task, run.task.partition("/")[2], ""):
        if name in scale:
            return scale[name]
    cure = find.nearest(run.task, list(scale))
    raise ConfigError(f"--normalize has no returns for {run.task or run.folder}; {cure}")


def read_scale(text: str) -> dict[str, tuple[float, float]]:
    """What --normalize means: 'RANDOM,EXPERT', two returns for every task, or a JSON file of {task: [random, expert]}.

    A task is 'suite/name', or its name alone. A file may also say {"random": ..., "expert": ...} of a task.

    Raises:
        ConfigError: it is neither, or the two returns of a task are no finite numbers or the same.
    """
    words = text.split(",")
    try:
        if len(words) == 2 and not text.endswith(".json"):
            return {"": _pair("", words)}
        table = json.loads(Path(text).read_text(encoding="utf-8"))
        pairs = {
            task: (pair["random"], pair["expert"]) if isinstance(pair, dict) else pair for task, pair in table.items()
        }
        return {task: _pair(task, pair) for task, pair in pairs.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as mistake:
        reason = f"it lacks {mistake}" if isinstance(mistake, KeyError) else mistake
        cure = 'give RANDOM,EXPERT or a JSON file of {"suite/name": [random, expert]}'
        raise ConfigError(f"--normalize={keys.clip(text)} cannot be read ({reason}); {cure}") from None


def _pair(task: str, pair) -> tuple[float, float]:
    low, high = map(float, (pair["random"], pair["expert"]) if isinstance(pair, dict) else pair)
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"{task + ': ' if task else ''}{low:g} and {high:g} are no two different numbers")
    return low, high


def curve(runs: list[Run], key: str, view: View) -> Curve | None:
    """One metric of one group of runs; None where no run holds it.

    Of one run it is what was measured, with ± one standard deviation over its episodes where the rows hold it. Of
    several, their IQM with its 95 % stratified bootstrap interval, or their mean with ± one standard deviation.

    Raises:
        ConfigError: the runs share no range of the axis, or are of several tasks and not normalised.
    """
    held = [(run, *series(run, key, view)) for run in runs]
    held = [(run, x, y) for run, x, y in held if len(x)]
    if len(held) <= 1:
        return _single(*held[0], key, view) if held else None
    _check_tasks([run for run, _, _ in held], key, view)
    low, high = max(x[0] for _, x, _ in held), min(x[-1] for _, x, _ in held)
    if low > high:
        raise ConfigError(f"the runs share no range of {view.axis} in {key}; draw them with --group none")
    grid = np.unique(np.concatenate([[low, high], *(x[(x >= low) & (x <= high)] for _, x, _ in held)]))
    grid = grid if len(grid) <= GRID else np.linspace(low, high, GRID)
    strata = by_task([run for run, _, _ in held], [np.interp(grid, x, y) for _, x, y in held])  # [P, R] each
    many = f"{len(held)} runs" + (f" of {len(strata)} tasks" if len(strata) > 1 else "")
    if view.aggregate == "mean":
        together = np.concatenate(strata, axis=-1)
        middle, spread = together.mean(-1), together.std(-1)
        return Curve(grid, middle, middle - spread, middle + spread, f"mean of {many}", "± std over runs")
    band = statistics.interval(strata, statistics.iqm)
    return Curve(grid, statistics.iqm(strata), *band, f"IQM of {many}", "95% bootstrap interval")


def _single(run: Run, x: np.ndarray, y: np.ndarray, key: str, view: View) -> Curve:
    """One run as it is; with ± std over episodes where the rows hold it."""
    spread_x, spread = series(run, f"{key}_std", view)
    if not np.array_equal(x, spread_x):
        return Curve(x, y, None, None, "", "")
    return Curve(x, y, y - spread, y + spread, "mean", "± std over episodes")


def is_comparable(runs: list[Run], key: str, view: View) -> bool:
    """Whether a metric means the same in all runs: they are of one task, or it is normalised."""
    return len({run.task for run in runs}) == 1 or (view.scale is not None and key in RETURNS)


def _check_tasks(runs: list[Run], key: str, view: View) -> None:
    if not is_comparable(runs, key, view):
        tasks = ", ".join(sorted({run.task or "an unknown task" for run in runs})[:3])
        cure = "give --normalize, or --group=config" if key in RETURNS else "draw them with --group=config"
        raise ConfigError(f"{key} of {tasks} cannot be one curve: it means something else in each; {cure}")


def by_task(runs: list[Run], values: list[np.ndarray]) -> statistics.Strata:
    """What was measured of each run ([...]), with the runs of each task together: [..., R] each, tasks sorted."""
    tasks = sorted({run.task for run in runs})
    return [
        np.stack([value for run, value in zip(runs, values, strict=True) if run.task == task], axis=-1)
        for task in tasks
    ]


class Scores(NamedTuple):
    """How good the runs of each group were in the end."""

    strata: dict[str, statistics.Strata]  # by label: a number for each run of each task, [R] each
    at: dict[str, float]  # by task: the x at which they were taken


def scores(groups: dict[str, list[Run]], key: str, view: View) -> Scores:
    """The value of a metric at the greatest x that all runs of a task reach, whatever their group: an equal budget.

    Raises:
        ConfigError: a group has no run that holds the metric, or groups are of several tasks and not normalised.
    """
    held = {label: [(run, *series(run, key, view)) for run in runs] for label, runs in groups.items()}
    held = {label: [(run, x, y) for run, x, y in runs if len(x)] for label, runs in held.items()}
    if empty := [label for label, runs in held.items() if not runs]:
        raise ConfigError(f"no run {f'of {empty[0]} ' if empty[0] else ''}holds {key}; choose another --metric")
    ends: dict[str, float] = {}
    for run, x, _ in (each for runs in held.values() for each in runs):
        ends[run.task] = min(ends.get(run.task, np.inf), x[-1].item())
    strata = {}
    for label, runs in held.items():
        members = [run for run, _, _ in runs]
        _check_tasks(members, key, view)
        for run, x, _ in runs:
            if x[0] > ends[run.task]:
                raise ConfigError(f"{run.folder} begins after another run of {run.task} ends; leave one of them out")
        strata[label] = by_task(members, [np.interp(ends[run.task], x, y) for run, x, y in runs])
    return Scores(strata, ends)
