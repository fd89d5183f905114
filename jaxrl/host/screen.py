"""A grid as text: redrawn in place in a terminal or a notebook, frame after frame where the text goes elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import numpy as np

from jaxrl.host import grids
from jaxrl.host.grids import Grid
from jaxrl.host.recording import Moment

HOME, CLEAR, BELOW = "\x1b[H", "\x1b[2J", "\x1b[J"  # ANSI: to the corner; all of the screen; what lies below


class Screen:
    """Where episodes are drawn.

    Args:
        rate: frames a second, where they are redrawn in place.
        stream: takes the text; None: standard output, as it is when an episode is shown.
        wait: takes the seconds until the next frame.
    """

    def __init__(self, rate: float, stream: TextIO | None = None, wait: Callable[[float], None] = time.sleep):
        self._seconds, self._stream, self._wait = 1.0 / rate, stream, wait

    def show(self, grid: Grid, title: str, moments: Iterator[Moment]) -> None:
        """Draws an episode whose views are frames [H, W, C] of the grid."""
        stream = self._stream or sys.stdout
        in_notebook = self._stream is None and "ipykernel.zmqshell" in sys.modules
        in_place = stream.isatty() and os.environ.get("TERM") != "dumb"
        is_coloured = in_place and not os.environ.get("NO_COLOR")  # https://no-color.org
        total = 0.0
        for number, moment in enumerate(moments):
            if (in_place or in_notebook) and number:
                self._wait(self._seconds)
            total += moment.reward
            text = "\n".join(frame(grid, moment, title, number, total, is_coloured))
            if in_notebook:
                _clear_cell()
            stream.write(
                f"{HOME if number else HOME + CLEAR}{_to_line_ends(text)}\n{BELOW}" if in_place else text + "\n\n"
            )
            stream.flush()


def frame(grid: Grid, moment: Moment, title: str, number: int, total: float, is_coloured: bool = False) -> list[str]:
    """The lines of one frame: the title, the grid with what happened beside it, and what the signs mean.

    Args:
        grid: of the view.
        moment: to be drawn.
        title: of the episode.
        number: of the step that led here, 0 at first.
        total: the return so far.
        is_coloured: by ANSI's codes.
    """
    action = "none yet" if moment.action is None else _short(moment.action)
    beside = [f"step    {number:,}", f"action  {action}", f"reward  {moment.reward:.6g}", f"return  {total:.6g}"]
    beside += ["end"] if moment.is_last else []
    rows = grids.lines(grid, moment.view, is_coloured)
    width = 2 * np.shape(moment.view)[1]
    plain = grids.lines(grid, moment.view)
    rows = [row + " " * (width - len(seen)) for row, seen in zip(rows, plain, strict=True)]
    rows += [" " * width] * (len(beside) - len(rows))
    beside += [""] * (len(rows) - len(beside))
    body = [f"{row}   {text}".rstrip() for row, text in zip(rows, beside, strict=True)]
    signs = grids.legend(grid, is_coloured)
    return [title, *body, *([signs] if signs else [])]


def _short(action) -> str:
    """An action on one line: options as they are, numbers with three digits."""
    if isinstance(action, tuple):
        return ", ".join(map(_short, action))
    return " ".join(f"{x:.3g}" for x in np.ravel(action))


def _to_line_ends(text) -> str:
    """Clears what an earlier frame has left at the ends of the lines."""
    return text.replace("\n", "\x1b[K\n") + "\x1b[K"


def _clear_cell() -> None:
    """Empties the output of a notebook's cell as soon as there is something new."""
    from IPython import display

    display.clear_output(wait=True)
