"""Writes rows of metrics to metrics.csv, one column a metric, for spreadsheets and data frames."""

import csv
import io
import os
from pathlib import Path

from jaxrl.types import Writer


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer of metrics.csv.

    A metric that first appears in a later row gets a new last column: the file is then rewritten once, and the cells
    above stay empty. Values that are not finite read nan, inf or -inf.

    Args:
        config: not read.
        workdir: the run folder.
        env_steps: None starts the file afresh; a number keeps the rows up to and including it, and appends.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "metrics.csv"
    columns, rows = ([], []) if env_steps is None else _read(path)
    _rewrite(path, columns, [row for row in rows if int(row["env_steps"]) <= env_steps])
    file = path.open("a", encoding="utf-8", newline="")

    def write(row: dict) -> None:
        nonlocal columns, file
        new = [key for key in row if key not in columns]
        if new:
            file.close()
            _, rows = _read(path)
            columns = columns + new
            _rewrite(path, columns, rows)
            file = path.open("a", encoding="utf-8", newline="")
        file.write(_line(row.get(key, "") for key in columns))
        file.flush()

    return Writer(write, lambda: file.close())


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole rows of a file; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # What follows the last newline was cut by a kill: its last number may look whole and be wrong.
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    return list(reader.fieldnames or []), list(reader)


def _rewrite(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Replaces the file in one step: a kill leaves the old one or the new one, never a half."""
    lines = [_line(columns)] if columns else []
    lines += [_line(row.get(key, "") for key in columns) for row in rows]
    draft = path.with_suffix(".csv.draft")
    draft.write_text("".join(lines), encoding="utf-8", newline="")
    os.replace(draft, path)


def _line(cells) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
