"""Reads the metrics that a run has written: metrics.jsonl back into rows, and rows into curves and columns."""

import json
from pathlib import Path

import numpy as np

from jaxrl.find import nearest
from jaxrl.types import ConfigError

FILE = "metrics.jsonl"


class History(list):
    """Rows of metrics, oldest first: a list of dicts, R of them, that can also be read by column."""

    def __repr__(self):
        """What there is, not all of it: a run has a hundred rows of twenty metrics."""
        if not self:
            return "History([])"
        return f"History({len(self)} rows to {self[-1]['env_steps']:,} env steps: {', '.join(self._names())})"

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """One metric as a curve over env steps, without the rows that lack it; see `series`.

        Raises:
            ConfigError: no row has such a metric; the message has the nearest name.
        """
        if not any(key in row for row in self):
            raise ConfigError(f"no row of metrics has {key!r}; {nearest(key, self._names())}")
        return series(self, key)

    def columns(self) -> dict[str, np.ndarray]:
        """Every metric, [R] float64 each with NaN where a row lacks it; env_steps is int64."""
        columns = {name: np.array([row.get(name) for row in self], np.float64) for name in self._names()}
        return columns | {"env_steps": np.array([row["env_steps"] for row in self], np.int64)}

    def to_pandas(self):
        """The columns as a pandas.DataFrame over env_steps.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(f"a data frame needs pandas ({error}); pip install pandas, or take columns().") from None
        return pandas.DataFrame(self.columns()).set_index("env_steps")

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self for name in row))


def read(run_dir: Path) -> History:
    """The rows of a run folder, oldest first; none where nothing has been written yet.

    A last line that a kill cut in two is left out. Values that were not finite when written are None.

    Raises:
        ConfigError: a line other than the last cannot be read, or a row has no env_steps.
    """
    path = Path(run_dir) / FILE
    if not path.is_file():
        return History()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [_parse(line) for line in lines]
    if rows and rows[-1] is None:
        rows.pop()
    if None in rows:
        raise ConfigError(f"{path}: line {rows.index(None) + 1} is not a row of metrics; delete that line")
    return History(rows)


def series(rows: list[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """One metric as a curve.

    Args:
        rows: as `read` gives them.
        key: such as 'eval/episode_return'.

    Returns:
        env_steps [R] int64 and values [R] float64, of the R rows that hold a value under `key`.
    """
    points = [(row["env_steps"], row[key]) for row in rows if row.get(key) is not None]
    x, y = zip(*points, strict=True) if points else ((), ())
    return np.asarray(x, np.int64), np.asarray(y, np.float64)


def _parse(line: str) -> dict | None:
    """One row, or None where the line holds none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("env_steps"), int) else None
