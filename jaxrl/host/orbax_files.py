"""The folder of a checkpoint by Orbax: named arrays and JSON, which appear in one atomic rename."""

import logging
import os
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp


class Files:
    """Writes and reads folders; raises what Orbax raises, of many kinds."""

    def __init__(self):
        # Of this process alone, which waits for no other; nothing in it has a default that would.
        me = jax.process_index()
        alone = {"multiprocessing_options": ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})}
        handler = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(**alone),
            # A file for each of the few arrays, as it is: a third less time than a database of compressed pieces, which
            # saving takes from the training; numbers of a run in progress are hardly smaller compressed.
            state=ocp.PyTreeCheckpointHandler(**alone, use_ocdbt=False, use_compression=False),
            meta=ocp.JsonCheckpointHandler(**alone),
        )
        self._checkpointer = ocp.Checkpointer(handler, **alone)

    def write(self, folder: Path, arrays: dict[str, np.ndarray], meta: dict) -> None:
        """Makes a folder, all of it or nothing."""
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(arrays), meta=ocp.args.JsonSave(meta))
        self._checkpointer.save(folder, args=items)

    def read_meta(self, folder: Path) -> dict:
        """The JSON."""
        return self._checkpointer.restore(folder, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def read_arrays(self, folder: Path) -> dict:
        """The arrays, nested as they were."""
        return self._checkpointer.restore(folder, args=ocp.args.Composite(state=ocp.args.PyTreeRestore()))["state"]


def _hush() -> None:
    """Keeps off the terminal what Orbax says beside its exceptions, which `Checkpointer` reports in one line.

    When one of many arrays fails, Orbax closes its event loop while TensorStore is at work on the others. Each of them
    then meets a closed loop, on a thread without a caller, or leaves a task whose exception nobody asks for: a page of
    traces for one full disk.
    """

    def is_of_others(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return f"{os.sep}orbax{os.sep}" not in record.pathname and "tensorstore" not in str(error)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(is_of_others)
    show = sys.unraisablehook

    def show_others(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_others


_hush()
