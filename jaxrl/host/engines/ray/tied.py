"""A training that ends with whoever started it: python -m jaxrl.host.engines.ray.tied FLAGS, those of jaxrl.train.

Ray may kill the worker that looks after a run, and no signal tells the run of it. But standard input is a pipe from the
worker, which breaks then: the run saves and ends, as on any SIGTERM, before another worker goes on with it.
"""

import importlib
import os
import signal
import sys
import threading


def watch(pipe: int) -> None:
    """Waits for the end of what comes through a pipe, then asks the process itself to end."""
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # A daemon, and no Python file: it must not keep the process, nor a lock that the interpreter wants at its end.
    threading.Thread(target=watch, args=(sys.stdin.fileno(),), daemon=True).start()
    # Not `from jaxrl import train`: that is the function of the library.
    sys.exit(importlib.import_module("jaxrl.train").main())
