"""Shows a run to whoever watches: a live bar in a terminal or notebook, a plain line now and then in a log file.

Everything goes to standard output, so that `> log` and `| tee log` catch it and standard error holds errors alone.
"""

import math
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxrl.host import history
from jaxrl.types import Writer

RETURN = "rollout/episode_return"
LENGTH = "rollout/episode_length"
LONGEST = "rollout/episode_length_max"
RATE = "update/learning_rate"
EVALUATION = "eval/episode_return"
EVALUATION_LENGTH = "eval/episode_length"
SPEED = "speed/env_steps_per_second"
COMPILE = "speed/compile_seconds"
SHOWN = (RETURN, LENGTH, LONGEST, RATE, EVALUATION, EVALUATION_LENGTH, SPEED, COMPILE)

LINE_SECONDS = 10.0  # in a log file, at least this long between two lines ...
LINE_SHARE = 0.1  # ... or this share of the run
FRAME_SECONDS = 0.1  # a live bar is drawn no more often,
NOTEBOOK_SECONDS = 1.0  # and rarer where every frame ends up in the saved notebook
PACE_ROWS = 20  # time left is judged by the last rows, evaluations and all
NOTEBOOK_COLUMNS = 110


class Status(NamedTuple):
    """What is known of a run that goes on."""

    total: int  # env steps of the whole run
    env_steps: int
    wall_seconds: float = 0.0
    latest: dict[str, float] = {}  # of each key in SHOWN, the last finite value
    start: dict[str, float] = {}  # and the first
    pace: tuple[tuple[int, float], ...] = ()  # (env_steps, wall_seconds) of the last rows
    has_ended: bool = False


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer that shows progress.

    Args:
        config: `total_env_steps` is read.
        workdir: the run folder; on a resume its metrics.jsonl tells the values at the start.
        env_steps: None for a new run; a number lets the bar begin there.
    """
    earlier = [] if env_steps is None else [row for row in history.read(workdir) if row["env_steps"] <= env_steps]
    status = Status(total=config.total_env_steps, env_steps=env_steps or 0)
    for row in earlier:
        status = advance(status, row)
    status = status._replace(env_steps=env_steps or 0, pace=())  # this process has its own pace
    is_notebook = "ipykernel.zmqshell" in sys.modules
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return _live(status, is_notebook) if is_notebook or is_terminal else _plain(status)


def say(text: str) -> None:
    """Prints a line, above the bar where one is live."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def advance(status: Status, row: dict) -> Status:
    """The status after one more row; a key that the row lacks keeps its last value."""
    values = {key: row[key] for key in SHOWN if row.get(key) is not None and math.isfinite(row[key])}
    # Compiling does not come again: rows before it say nothing of the time left.
    is_compiled = COMPILE in values and values[COMPILE] != status.latest.get(COMPILE)
    pace = () if is_compiled else status.pace[1 - PACE_ROWS :]
    return status._replace(
        env_steps=row["env_steps"],
        wall_seconds=row["wall_seconds"],
        latest=status.latest | values,
        start=values | status.start,
        pace=(*pace, (row["env_steps"], row["wall_seconds"])),
    )


def line(status: Status) -> str:
    """One plain line for a log file."""
    return f"{_percent(status)}  " + ", ".join(_parts(status, start="{now} (start {then})", is_whole=True))


def bar_format(status: Status, columns: int, arrow: str = "→") -> str:
    """tqdm's format of the richest bar that fits.

    Args:
        columns: width that may be filled.
        arrow: between the value at the start and the latest one.

    Returns:
        a format string with at most one field, {bar}.
    """
    for bar_size, layout in _layouts(status, arrow):
        if len(layout.replace("{bar}", "")) + bar_size <= columns:
            break
    return layout


def human(number: float) -> str:
    """A count in at most five characters: 950, 85k, 1.2M, 12.3G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            scaled = number / size
            digits = int(abs(scaled) < (9.95 if unit == "k" else 99.95))
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.0f}"


def clock(seconds: float) -> str:
    """A duration: 0:07, 12:34, 1:02:03, 3d 04h."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    if hour >= 48:
        return f"{hour // 24}d {hour % 24:02d}h"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _live(status: Status, is_notebook: bool) -> Writer:
    """A bar that is redrawn in place."""
    tqdm = _tqdm(is_notebook)
    stream = sys.stdout
    arrow = "→" if (getattr(stream, "encoding", None) or "ascii").lower().startswith("utf") else "->"
    frame_seconds = NOTEBOOK_SECONDS if is_notebook else FRAME_SECONDS
    shown_at = -math.inf

    def columns() -> int:
        return NOTEBOOK_COLUMNS if is_notebook else _columns(stream)

    bar = tqdm(
        total=max(status.total, 1),
        initial=min(status.env_steps, status.total),
        file=stream,
        ncols=columns(),
        nrows=24,  # left to itself, tqdm draws nothing in a terminal that does not know its size (containers, CI)
        bar_format=bar_format(status, columns(), arrow),
    )

    def draw() -> None:
        bar.n = min(status.env_steps, status.total)  # tqdm gives up its bar beyond the total
        bar.ncols = columns()
        bar.bar_format = bar_format(status, bar.ncols, arrow)
        bar.refresh()

    def write(row: dict) -> None:
        nonlocal status, shown_at
        status = advance(status, row)
        if status.env_steps >= status.total or abs(status.wall_seconds - shown_at) >= frame_seconds:
            shown_at = status.wall_seconds
            draw()

    def close() -> None:
        nonlocal status
        status = status._replace(has_ended=True)
        draw()
        if hasattr(bar, "container"):
            bar.total = bar.n  # a notebook's widget that closes early turns red, and a run may stop early on purpose
        bar.close()

    return Writer(write, close)


def _plain(status: Status) -> Writer:
    """A line for the first row, the last row, and now and then between."""
    shown = None

    def show() -> None:
        nonlocal shown
        shown = status
        say(line(status))

    def write(row: dict) -> None:
        nonlocal status
        status = advance(status, row)
        if (
            shown is None
            or status.env_steps >= status.total
            or status.wall_seconds - shown.wall_seconds >= LINE_SECONDS
            or math.floor(_share(status) / LINE_SHARE + 1e-9) > math.floor(_share(shown) / LINE_SHARE + 1e-9)
        ):
            show()

    def close() -> None:
        nonlocal status
        if shown is not None and shown is not status:
            status = status._replace(has_ended=True)
            show()

    return Writer(write, close)


def _tqdm(is_notebook: bool):
    """tqdm's class for this place: a widget in a notebook that can show one, else a line of text."""
    if not is_notebook:
        from tqdm import tqdm

        return tqdm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it advises to install them; the text line serves
        from tqdm.auto import tqdm
    return tqdm


def _columns(stream) -> int:
    """Width of the terminal, less the last column, where some terminals wrap."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or 80) - 1
    except OSError:
        return 79


def _layouts(status: Status, arrow: str) -> Iterator[tuple[int, str]]:
    """(least size of the bar, format), from the richest to the barest."""
    both, latest = f"{{then}}{arrow}{{now}}", "{now}"
    percent = _percent(status)
    for is_whole in (True, False):
        yield 10, f"{percent}|{{bar}}| " + ", ".join(_parts(status, start=both, is_whole=is_whole))
    brief = _parts(status, start=both, is_brief=True)
    yield 5, f"{percent}|{{bar}}| " + " ".join(brief)
    yield 4, "|{bar}| " + " ".join(brief)
    yield 0, f"{percent} " + " ".join(brief)
    brief = _parts(status, start=latest, is_brief=True)
    while brief:
        yield 0, f"{percent} " + " ".join(brief)
        brief.pop()
    yield 0, percent


def _parts(status: Status, start: str, is_brief: bool = False, is_whole: bool = False) -> list[str]:
    """What there is to say, the most important first.

    Args:
        start: how a latest value and the one at the start stand together, with the fields now and then.
        is_brief: short words.
        is_whole: the longest episode too, and how long those of the evaluation were.
    """
    latest = status.latest
    total = human(status.total).replace(".0", "")  # 1M: it does not move, so its width need not hold
    parts = [f"{human(status.env_steps)}/{total}" + ("" if is_brief else " steps")]
    pace = _steps_per_second(status)
    speed = latest.get(SPEED, pace)
    if speed:
        parts.append(f"{human(speed)}{'/s' if is_brief else ' steps/s'}")
    if status.has_ended or status.env_steps >= status.total:
        parts.append(f"took {clock(status.wall_seconds)}")
    elif pace:
        parts.append(f"{clock((status.total - status.env_steps) / pace)} left")

    def both(key: str) -> str:
        return start.format(now=_number(latest[key], is_brief), then=_number(status.start[key], is_brief))

    if RETURN in latest:
        parts.append(f"return {both(RETURN)}")
    if LENGTH in latest:
        longest = f" (max {_number(latest[LONGEST])})" if is_whole and LONGEST in latest else ""
        parts.append(f"{'len' if is_brief else 'length'} {_number(latest[LENGTH], is_brief)}{longest}")
    if RATE in latest:
        parts.append(f"lr {_rate(latest[RATE])}")
    if EVALUATION in latest:
        steps = f" in {_number(latest[EVALUATION_LENGTH])} steps" if is_whole and EVALUATION_LENGTH in latest else ""
        parts.append(f"eval {both(EVALUATION)}{steps}")
    return parts


def _steps_per_second(status: Status) -> float | None:
    """Env steps per second of wall time, evaluations included; the row's own speed while there is one row only."""
    if len(status.pace) > 1:
        (first_steps, first_seconds), (last_steps, last_seconds) = status.pace[0], status.pace[-1]
        if last_steps > first_steps and last_seconds > first_seconds:
            return (last_steps - first_steps) / (last_seconds - first_seconds)
    return status.latest.get(SPEED)


def _share(status: Status) -> float:
    return min(status.env_steps / max(status.total, 1), 1.0)


def _percent(status: Status) -> str:
    return f"{math.floor(100 * _share(status)):3d}%"  # 100% is the end, and nothing before


def _number(value: float, is_brief: bool = False) -> str:
    """A return or length in three digits or more: 9123, -56.3, 0.12, 1.2M; brief: in two."""
    size = abs(value)
    if size >= 99_999.5:
        return human(value)
    decimals = (size < 99.95) + (size < 9.995)
    return f"{value:.{max(decimals - is_brief, 0)}f}"


def _rate(value: float) -> str:
    """A learning rate: 3e-4, 2.7e-4."""
    factor, exponent = f"{value:.1e}".split("e")
    return f"{factor.removesuffix('.0')}e{int(exponent)}" if value else "0"
