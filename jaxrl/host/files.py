"""Files that are replaced whole: who reads one meanwhile sees the old or the new, never a part."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A name beside the file's, of the same suffix, for what is to take its place; left alone if that fails."""
    new = file.with_name(f".{file.stem}.new{file.suffix}")
    try:
        yield new
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)
