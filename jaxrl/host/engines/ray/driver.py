"""The driver of a sweep on a cluster: what Ray Tune asks for, and what becomes of a run's reports."""

import collections
import contextlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import Searcher

from jaxrl.host import config as configs
from jaxrl.host import guard, history
from jaxrl.host.checkpoint import SCORE
from jaxrl.host.engines.ray import cluster, process, study
from jaxrl.host.engines.ray.trial import Trial
from jaxrl.host.keys import error
from jaxrl.host.sweeping.ledger import Ledger, write
from jaxrl.host.sweeping.members import Member, resolved

BEHIND = "asha: behind the others at the same env steps"  # why a run was stopped early
RUNGS = 9  # the first milestone of asha is this part of the longest run
# What the driver's shell says of JAX and of rendering holds for the runs too.
PASSED = ("JAX_", "XLA_", "MUJOCO_GL", "PYOPENGL_PLATFORM")
SHARE = 0.9  # of the GPU's memory that the trials on it take together

Say = Callable[[str], None]


def conduct(book: Ledger, options, say: Say) -> int:
    """Trains the members of the book, and those that Optuna proposes, as `ray.run` says.

    Returns:
        The signal that ended it, 0 if none did.
    """
    notes = book.folder.resolve() / "ray"
    notes.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(process.locked(notes / "driver.lock", 0.0))
        except process.LostRunError:
            raise error(f"--workdir={book.folder} is being swept by another process; wait for its end, or give another "
                        "--workdir") from None  # fmt: skip
        return _conduct(book, options, notes, say)


def _conduct(book, options, notes, say):
    (notes / process.STOP).unlink(missing_ok=True)
    with cluster.connected(options.address, notes / "ray.log"), guard.Signals() as signals:
        room = cluster.check_room(options.cpus_per_trial, options.gpus_per_trial)
        source = study.Study(book, options.request, options.storage) if options.search == "optuna" else None
        desk = Desk(book, source, options, notes, signals, say)
        at_once = min(room, options.max_concurrent or room)
        say(f"jaxrl sweeps on a Ray cluster, up to {at_once} runs at once; folder {book.folder}")
        with warnings.catch_warnings(action="ignore"):  # of Ray's own parts about each other
            _tune(desk, options, notes)
        desk.close()
    return signals.received


def _tune(desk, options, notes):
    folder = notes / "tune"  # Tune's own, which nobody reads
    shutil.rmtree(folder, ignore_errors=True)
    tune.Tuner(
        tune.with_resources(Trial, {"CPU": options.cpus_per_trial, "GPU": options.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=desk.searcher,
            scheduler=desk.scheduler,
            num_samples=-1,  # the searcher says when there are no more
            max_concurrent_trials=options.max_concurrent or None,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(notes),
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
            callbacks=[Lines(desk)],
            verbose=0,
        ),
    ).fit()
    shutil.rmtree(folder, ignore_errors=True)


class Desk:
    """Where the members wait for a trial, and where what the trials report is noted."""

    def __init__(self, book: Ledger, source: study.Study | None, options, notes: Path, signals, say: Say):
        self._book, self._source, self._options = book, source, options
        self._notes, self._signals, self._say = notes, signals, say
        self._waiting = collections.deque(member for member in book.members if not book.is_settled(member))
        self._seated: dict[str, Member] = {}  # by the id of the trial
        self._touched: list[Member] = []  # members that had a trial
        self._told: dict[str, int] = {}  # env steps of the last line about each
        self._failures = collections.Counter()  # of each, in trials that were given up
        settled = [member for member in book.members if book.is_settled(member)]
        self.scheduler = _scheduler(options, book, settled)
        self.searcher = Proposals(self)
        if settled:
            say(f"{len(settled)} of {len(book.members)} members have ended before")

    def seat(self, trial_id: str) -> dict | None:
        """The job of a new trial; None if there is none now, and nothing runs from which one could come."""
        if self._signals.received:
            return None
        if not self._waiting and self._source:
            self._waiting.extend(self._source.propose())
        if not self._waiting:
            return None
        member = self._waiting.popleft()
        self._seated[trial_id] = member
        self._touched.append(member)
        self._book.note(member.name, "waiting", "", self._book.status(member)["env_steps"])
        job = self._job(member)
        write(job.note("json"), configs.to_json(member.config))
        return job._asdict()

    def look(self) -> None:
        """Asks all runs to save and end once a signal has come."""
        if self._signals.received:
            (self._notes / process.STOP).touch()

    @property
    def is_over(self) -> bool:
        """Whether nothing runs from whose end more could follow."""
        return not self._seated

    def begin(self, trial_id: str, failures: int) -> None:
        """A trial has found room."""
        self._say(f"{self._seated[trial_id].name}: {f'goes on after failure {failures}' if failures else 'begins'}")

    def report(self, trial_id: str, result: dict) -> None:
        """An evaluation of a run; what it tells again after a resume is not said again."""
        member = self._seated[trial_id]
        if result["env_steps"] > self._told.get(member.name, -1) and SCORE in result:
            self._told[member.name] = result["env_steps"]
            where = f" on {result['node_ip']}" if "node_ip" in result else ""
            self._say(f"{member.name}: {result['env_steps']:,} env steps{where}, return {result[SCORE]:.6g}")

    def fail(self, trial_id: str, reason: str) -> None:
        """A run has lost its process or its machine, for once or for good."""
        self._say(f"{self._seated[trial_id].name}: lost ({reason})")

    def give_up(self, trial_id: str, reason: str, failures: int) -> None:
        """A trial has failed so often that Tune gives it up; or before it had begun, which Tune does not try again."""
        member, most = self._seated[trial_id], self._options.max_failures
        self.end(trial_id, None, reason)
        self._failures[member.name] += failures
        if most < 0 or self._failures[member.name] <= most:
            self._waiting.append(member)

    def end(self, trial_id: str, result: dict | None, reason: str) -> None:
        """A trial has ended; a result without `ended` is that of a run that asha stops."""
        member = self._seated.pop(trial_id, None)
        if member is None:
            return
        result = result or {"ended": "interrupted", "reason": reason, "env_steps": self._told.get(member.name, 0)}
        how, why = result.get("ended", "stopped"), result.get("reason", BEHIND)
        self._book.note(member.name, how, why, result["env_steps"])
        self._say(f"{member.name}: {how} at {result['env_steps']:,} env steps{f' ({why})' if why else ''}")
        if self._source and how != "interrupted":
            self._source.tell(member)

    def close(self) -> None:
        """Once all trials have ended: waits for the last saves, and notes where each run stands."""
        for trial_id in list(self._seated):
            self.end(trial_id, None, "the sweep was called off")
        for member in self._touched:
            with contextlib.suppress(process.LostRunError), process.locked(self._job(member).note("lock")):
                pass  # its process has ended
            told, rows = self._book.status(member), history.read(self._book.path(member))
            if told["status"] != "done" and rows:
                self._book.note(member.name, told["status"], told["reason"], rows[-1]["env_steps"])

    def _job(self, member):
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        variables["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        if 0 < self._options.gpus_per_trial < 1:
            variables.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{SHARE * self._options.gpus_per_trial:.2f}")
        return process.Job(
            member=member.name,
            folder=str(self._book.path(member).resolve()),
            notes=str(self._notes),
            total_env_steps=member.config.total_env_steps,
            working_directory=os.getcwd(),
            environment=variables,
        )


class Fleeting:
    """What Tune would pickle, to bring it back; the sweep's folder and the study's database hold what there is."""

    def __getstate__(self):
        return {}


class Proposals(Fleeting, Searcher):
    """Tune's side of the desk: it asks for the next trial, and tells how one ended."""

    def __init__(self, desk: Desk):
        super().__init__(metric=SCORE, mode="max")
        self._desk = desk

    def suggest(self, trial_id: str):
        return self._desk.seat(trial_id) or (Searcher.FINISHED if self._desk.is_over else None)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False):
        del error
        if result:
            self._desk.end(trial_id, result, "")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default"):
        """As `Fleeting`."""


class Lines(Fleeting, tune.Callback):
    """Tune's side of what is said, and of runs that fail."""

    def __init__(self, desk: Desk):
        self._desk = desk

    def on_step_begin(self, iteration, trials, **info):
        self._desk.look()

    def on_trial_start(self, iteration, trials, trial, **info):
        self._desk.begin(trial.trial_id, trial.run_metadata.num_failures)

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self._desk.report(trial.trial_id, result)

    def on_trial_recover(self, iteration, trials, trial, **info):
        self._desk.fail(trial.trial_id, _cause(trial))

    def on_trial_error(self, iteration, trials, trial, **info):
        self._desk.give_up(trial.trial_id, _cause(trial), trial.run_metadata.num_failures)


def _cause(trial):
    """Why a trial failed last, in few words; ray.log gets all of them."""
    said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure #")[2]
    logging.getLogger("ray.tune").warning("trial %s: failure #%s", trial.trial_id, said)
    _, is_ours, reason = said.rpartition(f"{process.LostRunError.__name__}: ")
    return reason.splitlines()[0] if is_ours else "its machine or its worker died"


def _scheduler(options, book, settled):
    """asha or none; what the settled members have reached counts."""
    if options.scheduler == "none":
        return FIFOScheduler()
    longest = max(config.total_env_steps for config in [resolved(options.request), *(m.config for m in book.members)])
    scheduler = AsyncHyperBandScheduler(
        time_attr="env_steps",
        metric=SCORE,
        mode="max",
        max_t=longest,
        grace_period=options.grace_env_steps or max(longest // RUNGS, 1),
        reduction_factor=options.reduction_factor,
        stop_last_trials=False,
    )
    for member in settled:
        trial = SimpleNamespace(trial_id=member.name)
        scheduler.on_trial_add(None, trial)
        for row in history.read(book.path(member)):
            if row.get(SCORE) is not None:
                scheduler.on_trial_result(None, trial, row)
    return scheduler
