"""One system in a process of its own, so that torch and jax, or two jax programs, never share one.

The parent writes JSON lines to the child's standard input and reads JSON lines from its standard output, one for one.
"""

import contextlib
import importlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from problem import Problem

FOLDER = pathlib.Path(__file__).resolve().parent
WARM_UP_CALLS = 2  # Brax compiles again in its second one


class Window(NamedTuple):
    """One stretch of work of one system."""

    env_steps: int
    seconds: float
    cpu_seconds: float  # of all threads; on a busy machine it says more than `seconds`
    peak_rss_mb: float  # highest resident memory of the process since it began, 2^20 bytes

    @property
    def rate(self) -> float:
        """Env steps a second."""
        return self.env_steps / self.seconds

    @property
    def cpu_cost(self) -> float:
        """CPU seconds for a million env steps."""
        return 1e6 * self.cpu_seconds / self.env_steps


class WorkerError(Exception):
    """The system cannot run; the message is one line."""


class Worker:
    """A system, built and warmed up in a child process."""

    def __init__(self, module, shared, problem):
        """Starts the child and waits until it has compiled.

        Args:
            module: a name in `systems/`.
            shared: one trunk for policy and value, or separate nets.
            problem: a problem.Problem.

        Raises:
            ImportError: a library of the system is not installed.
            WorkerError: anything else that kept it from running.
        """
        # Several processes share the accelerator, so none may take it all; jaxrl is found where this file lies.
        self._log = tempfile.TemporaryFile("w+")  # what the libraries print; of interest only when they fail
        path = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
        self._child = subprocess.Popen(
            [sys.executable, __file__, json.dumps({"module": module, "shared": shared, "problem": problem._asdict()})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        ready = self._receive()
        self.device = ready["device"]
        self.start_seconds = ready["seconds"]

    def run(self, *, seconds=0.0, calls=1):
        """Work for at least so many seconds and so many calls of the system's step; the Window it took."""
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._child.stdin.write(json.dumps({"seconds": seconds, "calls": calls}) + "\n")
            self._child.stdin.flush()
        return Window(**self._receive())

    def close(self):
        """Ends the child, waiting for it."""
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _receive(self):
        line = self._child.stdout.readline()
        answer = json.loads(line) if line else {"failed": f"the process ended with status {self._child.wait()}"}
        if "absent" in answer:
            self.close()
            raise ImportError(answer["absent"])
        if "failed" in answer:
            self.close()
            self._log.seek(0)
            sys.stderr.write(self._log.read())
            raise WorkerError(answer["failed"])
        return answer


def _build(module, shared, problem):
    """The system's step after its warm-up, and what the parent is told of it."""
    start = time.perf_counter()
    problem = Problem(**{**problem, "hidden_sizes": tuple(problem["hidden_sizes"])})
    step = importlib.import_module(f"systems.{module}").make(problem, shared)
    for _ in range(WARM_UP_CALLS):
        step()
    import jax  # only now: a system may have to set jax up before it is imported

    return step, {"device": jax.devices()[0].device_kind, "seconds": time.perf_counter() - start}


def _work(step, seconds, calls):
    """Calls step until both are reached."""
    env_steps = done = 0
    start, cpu_start = time.perf_counter(), time.process_time()
    while done < calls or time.perf_counter() - start < seconds:
        env_steps += step()
        done += 1
    elapsed, cpu_elapsed = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = peak if sys.platform == "darwin" else 1024 * peak
    return Window(env_steps, elapsed, cpu_elapsed, peak_bytes / 2**20)._asdict()


def main():
    # Libraries print to standard output; they get standard error in its place.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        step, ready = _build(**json.loads(sys.argv[1]))
        answers.write(json.dumps(ready) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(_work(step, **json.loads(line))) + "\n")
    except ImportError as error:
        answers.write(json.dumps({"absent": str(error)}) + "\n")
    except Exception as error:
        answers.write(json.dumps({"failed": f"{type(error).__name__}: {error}".splitlines()[0]}) + "\n")
        raise


if __name__ == "__main__":
    main()
