"""The process of a run: it is started, its rows are read as they appear, and it is stopped; Ray is not known here."""

import collections
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.host import history
from jaxrl.host.checkpoint import SCORE

POLL_S = 0.3  # seconds between two looks at the rows of a run
LOCK_S = 180.0  # for which the process of a member that lost its worker may still be saving
SAVE_S = 300.0  # for which a process that was asked to end may go on until it is killed
STOP = "stop"  # a file of this name asks all runs to save and end
# A run is a program of its own, also where Slurm, Open MPI or Kubernetes has started Ray on several machines.
ALONE = {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
EARLY = "stops early: "  # what `loop.iterate` says before the reason


class Job(NamedTuple):
    """What a machine must know to train a member; it travels as a dict of plain values."""

    member: str
    folder: str  # the run folder
    notes: str  # the folder SWEEP/ray
    total_env_steps: int
    working_directory: str  # of the driver: what the config names, such as experiments and data, is found from here
    environment: dict[str, str]  # variables that the driver sets for the run

    def note(self, suffix: str) -> Path:
        """SWEEP/ray/MEMBER.suffix."""
        return Path(self.notes) / f"{self.member}.{suffix}"

    @property
    def is_called_off(self) -> bool:
        """Whether the driver wants all runs to save and end."""
        return (Path(self.notes) / STOP).exists()


class LostRunError(RuntimeError):
    """The process of a run died, or never came up: begun again, it goes on from its newest checkpoint."""


class Process:
    """A run of `jaxrl.train` in a process of its own."""

    def __init__(self, job: Job):
        """Starts the process, once no other trains the same member.

        Raises:
            LostRunError: the sweep's folder is not to be seen from this machine, or another process is at it.
        """
        self._job = job
        self._rows = collections.deque()
        self._last = {"env_steps": -1}  # of all rows that were read
        self._stamp = None  # of the file of rows as it was read
        if not job.note("json").is_file():
            raise LostRunError(f"{job.note('json')} is not on this machine; give a --workdir that all machines share")
        command = [sys.executable, "-m", "jaxrl.host.engines.ray.tied"]
        flags = [f"--config={job.note('json')}", f"--workdir={job.folder}"]
        with locked(job.note("lock")) as lock, job.note("log").open("ab") as log:
            self._child = subprocess.Popen(
                [*command, *flags],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=job.working_directory,
                env=os.environ | job.environment | ALONE, start_new_session=True,
                pass_fds=[lock],  # the lock is the child's from here on, and goes with it
            )  # fmt: skip

    def report(self) -> dict[str, Any]:
        """Waits for the next evaluation, or for the end.

        Returns:
            `env_steps`, SCORE if there is one; at the end also `done`, how it `ended` (of ledger.ENDS), the `reason`.

        Raises:
            LostRunError: the process died.
        """
        while True:
            status = self._child.poll()  # first, so that the rows that are read next are all that there are
            self._read()
            # The row of the last evaluation is told with the end that it comes with: nobody may stop what is done.
            if self._rows and self._rows[0]["env_steps"] < self._job.total_env_steps:
                return self._rows.popleft()
            if status is not None:
                self._child.stdin.close()
                return self._end(status)
            if self._job.is_called_off:
                self.stop()
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(POLL_S)

    def stop(self) -> None:
        """Lets the run save, and ends it."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(SAVE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._child.stdin.close()

    def _read(self):
        """Takes in the rows that are new; after a resume those of the checkpoint's time come again, and are not."""
        try:
            found = os.stat(Path(self._job.folder) / history.FILE)
        except FileNotFoundError:
            return
        stamp = found.st_mtime_ns, found.st_size
        if stamp == self._stamp:
            return
        self._stamp = stamp
        for row in history.read(Path(self._job.folder)):
            if row["env_steps"] > self._last["env_steps"]:
                self._last = row
                if row.get(SCORE) is not None:
                    self._rows.append({"env_steps": row["env_steps"], SCORE: row[SCORE]})

    def _end(self, status):
        """What is told of a process that has ended, by its exit status; see `train.main`."""
        reached = {"env_steps": max(self._last["env_steps"], 0)}
        reached |= self._rows.pop() if self._rows else {}
        lines = self._job.note("log").read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        if status == 0 and reached["env_steps"] >= self._job.total_env_steps:
            return reached | {"done": True, "ended": "done", "reason": ""}
        if status == 0:
            why = next((line.partition(EARLY)[2] for line in reversed(lines) if line.startswith(EARLY)), "")
            return reached | {"done": True, "ended": "stopped", "reason": why}
        if status == 3:
            return reached | {"done": True, "ended": "broken", "reason": lines[-1].removeprefix("error: ")}
        if status == 2:  # the machine lacks something, or the config: cured, the same command goes on
            return reached | {"done": True, "ended": "interrupted", "reason": lines[-1].removeprefix("error: ")}
        if self._job.is_called_off:
            return reached | {"done": True, "ended": "interrupted", "reason": "the sweep was called off"}
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise LostRunError(f"the process ended with {how} ({lines[-1][:200]}); see {self._job.note('log')}")


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = LOCK_S) -> Iterator[int]:
    """The descriptor of a file that is locked: by whoever has it, until the last of them has closed it.

    Raises:
        LostRunError: another process has held it for so long.
    """
    with path.open("ab") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LostRunError(f"{path} is held by another process after {timeout_s:g} s") from None
                time.sleep(POLL_S)
        yield file.fileno()
