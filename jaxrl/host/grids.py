"""Observations that are grids, as characters and as pictures: what stands in a cell, or how bright it is.

Letters in shapes: H rows, W columns, C channels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxrl.types import PyTree

NOT_SHOWN = ("action_mask", "critic")  # parts of an observation that are no picture of the world
EMPTY = -1  # of a cell in which nothing stands
DOT, SHADES = "·", " .:-=+*#%@"  # an empty cell; from dark to bright
HEIGHT = 320  # pixels of a picture, about
GROUND = (24, 24, 32)  # red, green, blue of an empty cell
# Colours for what stands in cells: Paul Tol's bright and vibrant ones, https://personal.sron.nl/~pault.
PALETTE = np.array(
    [(238, 119, 51), (0, 153, 136), (204, 187, 68), (68, 119, 170), (238, 51, 119), (102, 204, 238), (170, 51, 119),
     (34, 136, 51), (187, 187, 187), (204, 51, 17)], np.uint8,
)  # fmt: skip


class Grid(NamedTuple):
    """Where the grid is in an observation, and what is known of it."""

    part: str  # of an observation that is a dict; '' where it is the whole
    names: tuple[str, ...]  # [C] of what stands in cells; '' is not drawn
    signs: tuple[str, ...]  # [C] a character for each
    is_image: bool  # bytes: cells are bright or dark


def find(obs: PyTree, names: tuple[str, ...] = ()) -> Grid | None:
    """The grid in an observation; None if there is none.

    Args:
        obs: of jax.ShapeDtypeStruct, of one environment. A grid is the first of its arrays that is [H, W, C]: bytes
            are an image, and other numbers say of each cell what stands in it, one channel for each kind of thing.
        names: [C] of the channels, if they are known.
    """
    parts = dict(obs) if isinstance(obs, Mapping) else {"": obs}
    for part, array in parts.items():
        if part in NOT_SHOWN or not isinstance(array, jax.ShapeDtypeStruct) or len(array.shape) != 3:
            continue
        num = array.shape[-1]
        known = tuple(names) if len(names) == num else tuple(f"channel {i}" for i in range(num))
        return Grid(part, known, _signs(known), array.dtype == np.uint8)
    return None


def of(grid: Grid, obs: PyTree) -> np.ndarray:
    """[H, W, C], the grid of the first environment in observations [N, ...]."""
    return (obs[grid.part] if grid.part else obs)[0]


def cells(grid: Grid, frame: np.ndarray) -> np.ndarray:
    """[H, W] the channel that is drawn in each cell of a frame [H, W, C], or EMPTY.

    Where several stand in one cell, that with the fewest cells is drawn: a ball before the wall. What fills the whole
    grid, as a channel that says whose turn it is, is in no cell of its own and not drawn.
    """
    stands = np.asarray(frame) > 0
    count = stands.sum(axis=(0, 1))
    drawn = [i for i, name in enumerate(grid.names) if name and 0 < count[i] < stands[..., 0].size]
    told = np.full(stands.shape[:2], EMPTY)
    for i in sorted(drawn, key=lambda i: (-count[i], -i)):
        told[stands[..., i]] = i
    return told


def lines(grid: Grid, frame: np.ndarray, is_coloured: bool = False) -> list[str]:
    """The rows of a frame [H, W, C] as text, two characters a cell: that makes it about square.

    Args:
        is_coloured: with the colours of the picture, by ANSI's codes.
    """
    if grid.is_image:
        grey = _rgb(frame).mean(axis=-1)
        return ["".join(2 * SHADES[int(x * len(SHADES) / 256)] for x in row) for row in grey]
    row_text = lambda row: "".join(_paint(*_sign(grid, i), is_coloured) + " " for i in row).rstrip()  # noqa: E731
    return [row_text(row) for row in cells(grid, frame)]


def legend(grid: Grid, is_coloured: bool = False) -> str:
    """What the characters mean, on one line; '' for an image."""
    if grid.is_image:
        return ""
    return "  ".join(f"{_paint(*_sign(grid, i), is_coloured)} {name}" for i, name in enumerate(grid.names) if name)


def picture(grid: Grid, frame: np.ndarray) -> np.ndarray:
    """[height, width, 3] uint8 of a frame [H, W, C], with even sides, as video has them."""
    if grid.is_image:
        small = _rgb(frame)
    else:
        colours = np.concatenate([np.resize(PALETTE, (len(grid.names), 3)), np.array([GROUND], np.uint8)])
        small = colours[cells(grid, frame)]  # EMPTY is the last
    scale = 2 * max(round(HEIGHT / small.shape[0] / 2), 1)
    return small.repeat(scale, axis=0).repeat(scale, axis=1)


def _rgb(frame):
    """[H, W, 3] of an image: colours if it has three channels, else the last of them, which is the newest, in grey."""
    frame = np.asarray(frame)
    return frame if frame.shape[-1] == 3 else np.repeat(frame[..., -1:], 3, axis=-1)


def _signs(names) -> tuple[str, ...]:
    """A character for each name: of its own letters the first that is still free, else any."""
    taken: list[str] = []
    digits = "123456789" if all(name.startswith("channel ") for name in names) else ""
    for name in names:
        own = "" if digits else "".join(filter(str.isalpha, name))
        choice = [*digits, *own.upper(), *own.lower(), *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"]
        taken.append(next((sign for sign in choice if sign not in taken), "?") if name else " ")
    return tuple(taken)


def _sign(grid, i) -> tuple[str, tuple[int, ...] | None]:
    """The character of a channel, and its colour."""
    return (DOT, None) if i == EMPTY else (grid.signs[i], tuple(map(int, PALETTE[i % len(PALETTE)])))


def _paint(sign, colour, is_coloured) -> str:
    return "\x1b[38;2;{};{};{}m{}\x1b[0m".format(*colour, sign) if is_coloured and colour else sign
