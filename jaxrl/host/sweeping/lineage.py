"""Who descends from whom: the record of a population's exploits, from which one that was killed goes on.

SWEEP/lineage.csv      of each exploit a row for each member: its score, whose copy it became (itself where it stayed),
                       and its numbers, before and from then on
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxrl.host.keys import error
from jaxrl.host.sweeping.ledger import write

FILE = "lineage.csv"
BEFORE = " before"


class Row(NamedTuple):
    """What an exploit made of a member."""

    env_steps: int
    member: str
    parent: str  # whose copy it became; itself where it was left alone
    score: float  # that it was judged by; NaN where it had none
    before: dict[str, float]  # by dotted key
    after: dict[str, float]

    @property
    def is_copy(self) -> bool:
        return self.member != self.parent


class Lineage:
    """The exploits of a population, in its folder; each is written whole or not at all."""

    def __init__(self, folder: Path, names: Sequence[str]):
        """Reads what there is.

        Args:
            folder: of the sweep.
            names: dotted keys of the numbers that change.

        Raises:
            ConfigError: it cannot be read.
        """
        self.path, self._names = Path(folder) / FILE, list(names)
        self.rows: list[Row] = _read(self.path, self._names) if self.path.exists() else []
        self._index()

    def at(self, env_steps: int) -> dict[str, Row]:
        """The exploit after so many env steps, by member; {} if none was made."""
        return {row.member: row for row in self.rows if row.env_steps == env_steps}

    def of(self, member: str, env_steps: float = math.inf) -> list[Row]:
        """The copies that a member became before so many env steps were done, oldest first."""
        return [row for row in self._copies.get(member, []) if row.env_steps < env_steps]

    def ancestors(self, member: str) -> list[tuple[int, str]]:
        """By whom a member's knowledge was learned, and until which env steps, the oldest first; not its own end."""
        told: list[tuple[int, str]] = []
        env_steps: float = math.inf
        while copies := self.of(member, env_steps):
            env_steps, member = copies[-1].env_steps, copies[-1].parent
            told.append((copies[-1].env_steps, member))
        return told[::-1]

    def add(self, rows: list[Row]) -> None:
        """Notes an exploit, on disk."""
        self.rows = sorted([*self.rows, *rows], key=lambda row: row.env_steps)
        self._index()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_head(self._names))
        for row in self.rows:
            numbers = [each[name] for name in self._names for each in (row.before, row.after)]
            writer.writerow((row.env_steps, row.member, row.parent, row.score, *numbers))
        write(self.path, text.getvalue())

    def _index(self):
        self._copies: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.is_copy:
                self._copies.setdefault(row.member, []).append(row)


def _head(names):
    return ["env_steps", "member", "parent", "score", *(head for name in names for head in (name + BEFORE, name))]


def _read(path, names):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            head, *cells = csv.reader(file)
        if head != _head(names):
            raise ValueError(f"its columns are not {_head(names)}")
        return [_row(names, *row) for row in cells]
    except (OSError, ValueError, TypeError) as mistake:
        raise error(f"{path} cannot be read ({mistake}); restore the file, or give a new --workdir") from None


def _row(names, env_steps, member, parent, score, *numbers):
    values = list(map(float, numbers))
    before, after = (dict(zip(names, values[i::2], strict=True)) for i in (0, 1))
    return Row(int(env_steps), member, parent, float(score), before, after)
