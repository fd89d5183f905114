"""The training loop: run an epoch, log it, evaluate, save, stop; and go on where a run stopped."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.find import find
from jaxrl.host import checkpoint, guard, history, processes, program, run_folder, sharding, tracking
from jaxrl.host import config as configs
from jaxrl.host import shelf as shelves
from jaxrl.host.writers import console
from jaxrl.types import ConfigError, PyTree, TrainState, Writer


class Run(NamedTuple):
    """What is left of a run when it ends."""

    workdir: Path
    config: ConfigDict  # resolved
    state: TrainState
    env_steps: int
    reason: str  # why it ended before its time; '' if it did not
    signal: int  # that ended it, 0 if none did

    def __repr__(self):
        """A line: the state is far too long for one."""
        row = next((row for row in reversed(self.history) if row.get(checkpoint.SCORE) is not None), None)
        score = f", {checkpoint.SCORE}={row[checkpoint.SCORE]:.6g} at {row['env_steps']:,}" if row else ""
        why = f", reason={self.reason!r}" if self.reason else ""
        return f"Run({str(self.workdir)!r}, env_steps={self.env_steps:,}{score}{why})"

    @property
    def history(self) -> history.History:
        """The rows of metrics.jsonl, from the run's beginning."""
        return history.read(self.workdir)


class Plan(NamedTuple):
    """When what happens, in iterations and epochs; it follows from the config alone, so a resumed run keeps it."""

    env_steps: int  # of one iteration
    iterations: int  # of the run
    per_epoch: int  # iterations
    eval_every: int  # epochs
    save_every: int  # epochs

    def next_length(self, iterations: int) -> int:
        """Iterations in the epoch after so many."""
        return min(self.per_epoch - iterations % self.per_epoch, self.iterations - iterations)

    def is_due(self, iterations: int, every: int) -> bool:
        """Whether something that happens every so many epochs, and at the end, happens after so many iterations."""
        return iterations >= self.iterations or iterations % (every * self.per_epoch) == 0


def plan(config: ConfigDict, env_steps_per_iteration: int) -> Plan:
    """The plan of a run; see the comments in the config's defaults for what 0 means."""
    iterations = math.ceil(config.total_env_steps / env_steps_per_iteration)
    per_epoch = config.epoch_iterations or min(max(math.ceil(iterations / 100), 1), 16)

    def epochs(interval, share):
        return max(round((interval or config.total_env_steps / share) / (env_steps_per_iteration * per_epoch)), 1)

    return Plan(
        env_steps=env_steps_per_iteration,
        iterations=iterations,
        per_epoch=per_epoch,
        eval_every=epochs(config.eval.interval, 20),
        save_every=epochs(config.checkpoint.interval, 10),
    )


def train(
    config: ConfigDict,
    workdir: Path,
    command_line: list[str],
    say: Callable[[str], None] = console.say,
    code: tuple[Path, ...] | None = None,
) -> Run:
    """Trains, or goes on with the run in `workdir`, to the end that the config sets; see `iterate`."""
    rows = iterate(config, workdir, command_line, say, code)
    while True:
        try:
            next(rows)
        except StopIteration as end:
            return end.value


def iterate(
    config: ConfigDict,
    workdir: Path,
    command_line: list[str],
    say: Callable[[str], None] = console.say,
    code: tuple[Path, ...] | None = None,
) -> Generator[dict, None, Run]:
    """Trains while its rows are asked for; whoever closes it leaves a run that is saved and can go on.

    Of several processes of one program each calls it, asks for the same number of rows, and gets the same.

    Args:
        config: resolved.
        workdir: the run folder.
        command_line: for the record.
        say: takes what there is to tell, a line at a time.
        code: what ran in this process beside the modules that were imported, where all of it is in files; then the
            programs of an earlier process may serve. None where it may not be, as in a notebook.

    Yields:
        Each row of metrics, once it is written. The device is an epoch ahead, so that looking at a row costs nothing.

    Returns:
        The run.

    Raises:
        ConfigError: what is asked for cannot be done; nothing has been written, or nothing but the run folder.
        guard.BrokenRunError: a metric is not finite, or an environment allowed no action.
    """
    began = time.perf_counter()
    if config.seeds > 1:
        raise ConfigError(f"config.seeds={config.seeds} is a sweep, not a run; call jaxrl.sweep, or set it to 1.")
    program.use_compilation_cache()
    sharding.wake()
    crew = processes.crew()
    crew.first(functools.partial(configs.check_same, crew.gather(configs.to_json(config))))
    say = say if crew.is_first else lambda line: None
    mesh = program.mesh(config)
    kind = mesh.devices.flat[0].device_kind
    source = program.make(config, mesh)
    stop_rule = guard.stop_rule(config.stop)
    devices = {"kind": kind, "count": mesh.size, "processes": crew.size}
    folder = Path(workdir)
    crew.first(lambda: run_folder.open_run(folder, config, command_line, devices, source.env.spec) and None)
    of = f" of {crew.size} processes" if crew.size > 1 else ""
    say(f"jaxrl trains {config.env.name} ({config.env.suite}) on {mesh.size} x {kind}{of}; run folder {folder}")
    say("compiling ...")
    shelf = None if code is None else shelves.find(config, mesh, source.env, code)
    programs = program.compile(source, mesh, config.seed, shelf)
    parameters = program.num_parameters(programs.template.agent)
    crew.wait()
    say(f"compiled in {programs.compile_seconds:.1f} s; {parameters:,} parameters")

    saver = checkpoint.Checkpointer(folder / "checkpoints", config.checkpoint, say, crew)
    crew.at_loss(saver.wait)
    # A checkpoint may hold the agent alone, as `convert` writes it: its environments then begin anew.
    restored = saver.restore(programs.template, complete=programs.init)
    steps = source.env.spec.num_envs * source.algorithm.unroll_length
    with contextlib.ExitStack() as stack:
        if crew.is_first:
            stack.enter_context(run_folder.running(folder))  # left last: who looks on then finds all that was saved
        stack.callback(saver.close)
        signals = stack.enter_context(guard.Signals())
        if restored:
            state, at = restored
            say(f"goes on from {at:,} env steps, checkpoint {checkpoint.fingerprint(state)[:12]}")
        else:
            state, at = programs.init(), None
        log = Log(config, folder, at, began, programs.compile_seconds, steps, crew)
        stack.callback(log.close)
        loop = Loop(plan(config, steps), programs, saver, log, stop_rule, signals, mesh, crew)
        state, reason = yield from loop.run(state, is_new=not restored)
        if reason:
            say(f"stops early: {reason}")
    if crew.is_first and not loop.signal:  # who sends one wants it to end
        tracking.finish(folder, config, int(state.iterations) * steps, say)
    return Run(folder, config, state, int(state.iterations) * steps, reason, loop.signal)


class Log:
    """Turns metrics into rows and hands them to the writers; of several processes, the first does, for all."""

    def __init__(self, config, folder, env_steps, began, compile_seconds, steps_per_iteration, crew=processes.ALONE):
        self._crew = crew
        self._guard = config.guard
        self._compile_seconds = compile_seconds
        self._steps_per_iteration = steps_per_iteration
        self._writers: list[Writer] = []
        self.best = crew.first(lambda: self._open(config, folder, env_steps, began))

    def _open(self, config, folder, env_steps, began) -> float:
        """Opens the writers; the best evaluation so far."""
        rows = [] if env_steps is None else [row for row in history.read(folder) if row["env_steps"] <= env_steps]
        before = rows[-1]["wall_seconds"] if rows else 0.0
        self._began = began - before  # wall seconds go on where they stopped, like env steps
        self._writers = [find("host.writers", name).make(config, folder, env_steps) for name in config.writers]
        return max((row.get(checkpoint.SCORE, -math.inf) for row in rows), default=-math.inf)

    def write(self, env_steps: int, metrics: PyTree, num_steps: int, seconds: float) -> dict:
        """Writes the row of an epoch that took so many steps and seconds; BrokenRunError if it is broken."""
        row = self._crew.first(lambda: self._record(env_steps, metrics, num_steps, seconds))
        guard.check(row, self._guard)
        return row

    def _record(self, env_steps, metrics, num_steps, seconds) -> dict:
        row = {"env_steps": env_steps, "wall_seconds": round(time.perf_counter() - self._began, 3)}
        row |= {name: value.item() for name, value in fetch(metrics).items()}
        if row.get("rollout/episodes") == 0:  # a mean over no episode
            row = {name: value for name, value in row.items() if name not in MEANS_OVER_EPISODES}
        if num_steps:
            row["speed/env_steps_per_second"] = round(num_steps / seconds, 1)
        row["update/iterations"] = env_steps // self._steps_per_iteration
        row["speed/compile_seconds"] = round(self._compile_seconds, 3)
        for writer in self._writers:
            writer.write(row)
        return row

    def close(self):
        for writer in self._writers:
            writer.close()


def fetch(metrics: PyTree) -> dict:
    """Metrics on the host, by name, of a tree of mappings; each crosses in as few pieces as it has arrays."""
    parts = jax.tree.leaves(jax.device_get(metrics), is_leaf=lambda part: isinstance(part, Mapping))
    return {name: value for part in parts for name, value in part.items()}


MEANS_OVER_EPISODES = ("rollout/episode_return", "rollout/episode_length")


class Pending(NamedTuple):
    """An epoch under way on the device, whose metrics nobody has fetched yet."""

    env_steps: int
    metrics: PyTree  # mappings, perhaps several in a tuple
    num_steps: int
    began: float  # when it was asked for

    def is_done(self) -> bool:
        """Whether it came back done, as an epoch does whose environments live on the host."""
        return all(leaf.is_ready() for leaf in jax.tree.leaves(self.metrics) if isinstance(leaf, jax.Array))


class Loop:
    """Epoch after epoch; each row is fetched while the next epoch already runs, so that logging costs nothing."""

    def __init__(self, plan: Plan, programs, saver, log: Log, stop_rule, signals, mesh, crew):
        self._plan, self._programs, self._saver, self._log = plan, programs, saver, log
        self._stop_rule = lambda row: crew.first(lambda: stop_rule(row))
        self._signals, self._crew = signals, crew
        self.signal = 0  # that all processes have heard of
        self._length = lambda length: sharding.put(np.int32(length), sharding.replicated(mesh))
        self._mark = time.perf_counter()  # when the device last came free
        self._saved_at = -1  # env steps of the last checkpoint

    def run(self, state: TrainState, is_new: bool) -> Generator[dict, None, tuple[TrainState, str]]:
        """From `state` to the end of the plan, or to the first reason to stop, a row at a time; what is left then."""
        plan, pending, reason = self._plan, None, ""
        iterations = int(state.iterations)
        try:
            if is_new:
                yield self._finish(Pending(0, self._programs.evaluate(state), 0, time.perf_counter()))[0]
            while iterations < plan.iterations and not reason:
                length = plan.next_length(iterations)
                number, began = self._length(length), time.perf_counter()
                with jax.transfer_guard("disallow"):  # nothing crosses to the host or from it inside an epoch
                    state, metrics = self._programs.epoch(state, number)
                iterations += length
                before = pending
                pending = Pending(iterations * plan.env_steps, metrics, length * plan.env_steps, began)
                if before:
                    row, reason = self._finish(before)
                    yield row
                self._listen()
                is_evaluated = plan.is_due(iterations, plan.eval_every)
                is_saved = plan.is_due(iterations, plan.save_every) or bool(self.signal)
                if is_evaluated or is_saved or self._crew.first(pending.is_done):
                    row, why = self._take_stock(state, pending, is_evaluated, is_saved)
                    pending, reason = None, why or reason
                    yield row
                    self._listen()  # that may have taken a while
                if self.signal:
                    reason = f"signal {self.signal}"
            if pending:
                (row, why), pending = self._finish(pending), None
                reason = why or reason
                yield row
        except GeneratorExit:  # whoever asked for the rows has seen enough
            if pending:  # an evaluation that is due is made, or the run that goes on would lack it
                self._take_stock(state, pending, plan.is_due(iterations, plan.eval_every), is_saved=True)
            self._keep(state, iterations * plan.env_steps)
            raise
        if reason:
            self._keep(state, iterations * plan.env_steps)
        self._listen()
        return state, reason if iterations < plan.iterations or self.signal else ""

    def _listen(self):
        self.signal = self._crew.signal(self._signals.received)

    def _keep(self, state, env_steps):
        """Saves a run that stops between two saves."""
        if self._saved_at != env_steps:
            self._save(state, env_steps, {})

    def _save(self, state, env_steps, row):
        self._saver.save(state, env_steps, row)
        self._saved_at = env_steps

    def _take_stock(self, state, pending, is_evaluated, is_saved) -> tuple[dict, str]:
        """Writes the row of an epoch with its evaluation, then saves: a checkpoint never is ahead of the metrics."""
        seconds = self._wait(pending)
        metrics = pending.metrics, self._programs.evaluate(state) if is_evaluated else {}
        row = self._log.write(pending.env_steps, metrics, pending.num_steps, seconds)
        score = row.get(checkpoint.SCORE, -math.inf)
        if is_saved or score > self._log.best:
            self._save(state, pending.env_steps, row)
        self._log.best = max(self._log.best, score)
        self._mark = time.perf_counter()
        return row, self._stop_rule(row)

    def _finish(self, pending: Pending) -> tuple[dict, str]:
        """Writes the row of an epoch; it, and a reason to stop or ''."""
        seconds = self._wait(pending)
        row = self._log.write(pending.env_steps, pending.metrics, pending.num_steps, seconds)
        return row, self._stop_rule(row)

    def _wait(self, pending: Pending) -> float:
        """Seconds that the device was busy with an epoch, once it is done."""
        jax.block_until_ready(pending.metrics)
        now = time.perf_counter()
        seconds, self._mark = now - max(self._mark, pending.began), now
        return seconds
