"""Runs notebooks whole and keeps what they show: python colab/execute.py [FILE.ipynb ...]

Without a file, all in this folder. Each gets a kernel of its own, which imports this checkout, and an empty folder for
what it writes. One with a cell that fails, or complains on standard error, stays as it was, and the exit status is 1.

Needs the extra [notebook].
"""

import argparse
import hashlib
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
TIMEOUT_S = 600  # of one cell
# Of a machine that a saved output must not tell of: folders of a user or a system, hosts, dates.
PRIVATE = re.compile(r"/(?:home|root|tmp|work|Users|usr|opt|var|private|content)/|\b20\d\d-[01]\d-[0-3]\d\b")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 done, 1 a notebook failed."""
    import nbclient
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="FILE.ipynb", help="(default: all in this folder)")
    arguments = parser.parse_args(argv)
    for file in arguments.notebooks or sorted(FOLDER.glob("*.ipynb")):
        began, used = time.perf_counter(), _cpu_seconds()
        try:
            notebook = execute(nbformat.read(file, as_version=4))
        except nbclient.exceptions.CellExecutionError as failure:
            print(f"error: {file.name}: {failure}", file=sys.stderr)
            return 1
        if wrong := faults(notebook):
            print("\n".join(f"error: {file.name}: {fault}" for fault in wrong), file=sys.stderr)
            return 1
        nbformat.write(notebook, file)
        size = file.stat().st_size / 1e3
        took, worked = time.perf_counter() - began, _cpu_seconds() - used
        print(f"{file.name}: {took:.0f} s, {worked:.0f} s of CPU, {size:,.0f} kB", flush=True)
    return 0


def execute(notebook: Any) -> Any:
    """The same notebook (of nbformat) with the outputs of a run from its first cell to its last.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbclient

    # Fake devices and where pictures go are of whoever calls, such as the tests.
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "MPLBACKEND")}
    here = str(FOLDER.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environment.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
        client = nbclient.NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,  # of a bar that is redrawn, the last state
            store_widget_state=False,
            resources={"metadata": {"path": folder}},
        )
        client.create_kernel_manager()
        # Sockets in the file system, where nobody else on this machine can listen.
        client.km.transport, client.km.ip = "ipc", os.path.join(sockets, "kernel")
        client.execute(env=environment)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "jaxrl": {"executed": fingerprint(notebook)},
    }
    return notebook


def fingerprint(notebook: Any) -> str:
    """SHA-256 of its cells of code: outputs are of this code, and of no earlier one."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def faults(notebook: Any) -> list[str]:
    """What is wrong with the outputs of an executed notebook: errors, complaints, and what tells of a machine."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                found.append(f"cell {number} failed: {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                found.append(f"cell {number} complains: {output.text.strip()}")
            data = output.get("data", {"text/plain": output.get("text", "")})
            for kind, text in data.items():
                if not kind.startswith("image/") and (told := PRIVATE.search(text)):
                    found.append(f"cell {number} shows {text[max(told.start() - 40, 0) : told.end() + 40]!r}")
    return found


def _cpu_seconds() -> float:
    """Of all processes that have been waited for: the kernels."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
