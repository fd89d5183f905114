"""Reads the metrics that a run has written: metrics.jsonl back into rows, and rows into curves."""

import json
from pathlib import Path

import numpy as np

from jaxrl.types import ConfigError

FILE = "metrics.jsonl"


def read(run_dir: Path) -> list[dict]:
    """The rows of a run folder, oldest first; none where nothing has been written yet.

    A last line that a kill cut in two is left out. Values that were not finite when written are None.

    Raises:
        ConfigError: a line other than the last cannot be read, or a row has no env_steps.
    """
    path = Path(run_dir) / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [_parse(line) for line in lines]
    if rows and rows[-1] is None:
        rows.pop()
    if None in rows:
        raise ConfigError(f"{path}: line {rows.index(None) + 1} is not a row of metrics; delete that line")
    return rows


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
