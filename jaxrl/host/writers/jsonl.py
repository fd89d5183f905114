"""Appends each row of metrics to metrics.jsonl, one JSON object a line: the file that plot, resume and scripts read."""

import json
import math
import os
from pathlib import Path

from jaxrl.host import history
from jaxrl.types import Writer


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer of metrics.jsonl.

    A value that is not finite becomes null: JSON has no word for it, and a reader sees that it was measured and was no
    number.

    Args:
        config: not read.
        workdir: the run folder.
        env_steps: None starts the file afresh; a number keeps the rows up to and including it, and appends.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / history.FILE
    rows = [] if env_steps is None else [row for row in history.read(workdir) if row["env_steps"] <= env_steps]
    # Written beside and renamed: a kill in between leaves the old file whole.
    draft = path.with_suffix(".jsonl.draft")
    draft.write_text("".join(map(_line, rows)), encoding="utf-8")
    os.replace(draft, path)
    file = path.open("a", encoding="utf-8")

    def write(row: dict) -> None:
        file.write(_line(row))
        file.flush()

    return Writer(write, file.close)


def _line(row: dict) -> str:
    finite = {key: value if value is None or math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"
