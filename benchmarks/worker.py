"""One system in a process of its own, so that torch and jax, or two jax programs, never share one.

The parent writes JSON lines to the child's standard input and reads JSON lines from its standard output, one for one.
"""

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks.problem import Problem
from benchmarks.report import ROOT

WARM_UP_CALLS = 2  # Brax compiles again in its second one


class Job(NamedTuple):
    """What a child process builds."""

    module: str  # in `systems/`
    problem: Problem | None = None  # makes a step of it; None learns the system's recipe for Ant instead
    shared: bool = False  # one trunk for policy and value, or separate nets
    seed: int = 0  # of the recipe
    interval: int = 0  # env steps of a step of the recipe, at least
    episodes: int = 128  # of an evaluation of the recipe
    warm_up_calls: int = WARM_UP_CALLS


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

    def __init__(self, job: Job, python: str = sys.executable, environ: dict[str, str] | None = None):
        """Starts the child and waits until it has warmed up.

        Args:
            job: what it builds.
            python: that runs it.
            environ: variables of its environment beside ours.

        Raises:
            ImportError: a library of the system is not installed.
            WorkerError: anything else that kept it from running.
        """
        self._log = tempfile.TemporaryFile("w+")  # what the libraries print; of interest only when they fail
        began = time.perf_counter()
        self._child = subprocess.Popen(
            [python, "-m", "benchmarks.worker", json.dumps(job._asdict() | {"problem": _plain(job.problem)})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,  # where jaxrl and this folder are found
            # Several processes share the accelerator, so none may take it all.
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **(environ or {})},
        )
        ready = self._receive()
        self.device = ready["device"]
        self.compilations = ready["compilations"]  # of the child so far, see Compilations
        self.start_seconds = time.perf_counter() - began  # from the birth of the process to the end of its warm-up

    def run(self, *, seconds: float = 0.0, calls: int = 1) -> Window:
        """Work for at least so many seconds and so many calls of the system's step; the Window it took."""
        return Window(**self._ask(seconds=seconds, calls=calls))

    def evaluate(self) -> dict[str, float]:
        """`mean` and `std` of the returns of episodes of the deterministic policy, and the `seconds` they took."""
        return self._ask(evaluate=True)

    def compiled(self) -> dict:
        """The compilations of the child until now."""
        return self._ask(compiled=True)

    def close(self) -> None:
        """Ends the child, waiting for it."""
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _ask(self, **what):
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._child.stdin.write(json.dumps(what) + "\n")
            self._child.stdin.flush()
        return self._receive()

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


def _plain(problem):
    return problem and problem._asdict()


class Compilations:
    """Listens to what JAX compiles, or fetches from its cache: how often and for how long, by the function's name."""

    COMPILING = "/jax/core/compile/backend_compile_duration"
    PREPARING = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration")

    def __init__(self):
        import jax

        self.functions = {}  # name -> [times, seconds]
        self.preparing = 0.0  # seconds of tracing and lowering; parts of a trace are counted in it and alone
        self.cache_hits = 0
        jax.monitoring.register_event_duration_secs_listener(self._lasted)
        jax.monitoring.register_event_listener(self._happened)

    def _lasted(self, event, seconds, fun_name="", **_):
        if event == self.COMPILING:
            times, before = self.functions.get(fun_name, (0, 0.0))
            self.functions[fun_name] = (times + 1, before + seconds)
        self.preparing += seconds if event in self.PREPARING else 0.0

    def _happened(self, event, **_):
        self.cache_hits += event == "/jax/compilation_cache/cache_hits"

    def told(self) -> dict:
        """All of it, for JSON."""
        return {"functions": self.functions, "preparing": self.preparing, "cache_hits": self.cache_hits}


def _build(module, problem, shared, seed, interval, episodes, warm_up_calls):
    """The system's step after its warm-up, and how its policy is evaluated."""
    system = importlib.import_module(f"benchmarks.systems.{module}")
    if problem is None:
        from benchmarks import evaluation

        step, act = system.learn(seed, interval)
        return step, evaluation.make("ant", "spring", episodes, act)
    step = system.make(Problem(**{**problem, "hidden_sizes": tuple(problem["hidden_sizes"])}), shared)
    for _ in range(warm_up_calls):
        step()
    return step, None


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


def _answer(step, evaluate, compilations, asked):
    match asked:
        case {"evaluate": True}:
            began = time.perf_counter()
            mean, std = evaluate()
            return {"mean": mean, "std": std, "seconds": time.perf_counter() - began}
        case {"compiled": True}:
            return compilations.told()
    return _work(step, **asked)


def main():
    """The child: builds what the command line says, then answers line by line."""
    # Libraries print to standard output; they get standard error in its place.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        compilations = Compilations()
        step, evaluate = _build(**json.loads(sys.argv[1]))
        import jax

        ready = {"device": jax.devices()[0].device_kind, "compilations": compilations.told()}
        answers.write(json.dumps(ready) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(_answer(step, evaluate, compilations, json.loads(line))) + "\n")
    except ImportError as error:
        answers.write(json.dumps({"absent": str(error)}) + "\n")
    except Exception as error:
        answers.write(json.dumps({"failed": f"{type(error).__name__}: {error}".splitlines()[0]}) + "\n")
        raise


if __name__ == "__main__":
    main()
