"""The training loop of a wave: one program for S members, of which each has its own rows, checkpoints and end.

It does for every member what `loop.Loop` does for a run, at the same env steps and in the same order, so that a
member's folder is that of a run. What one member meets ends that member: the others go on, and its share of the program
runs idle until the wave is done.
"""

import math
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.host import checkpoint, guard, loop, tracking
from jaxrl.host.loop import Pending
from jaxrl.host.sweeping import ledger, wave
from jaxrl.host.sweeping.members import Member
from jaxrl.host.writers import console
from jaxrl.types import PyTree, TrainState


class Seat:
    """A member in a wave: where its rows and states go, and how it ended."""

    def __init__(self, member: Member, folder: Path, book: ledger.Ledger, say):
        self.member, self.folder = member, folder
        self.saver = checkpoint.Checkpointer(
            folder / "checkpoints", member.config.checkpoint, lambda line: say(f"{member.name}: {line}")
        )
        self.reason = ""  # to stop, once what is under way is written
        self.fault = ""  # why it is broken, for as long as it is
        self.ended = ""  # of ledger.ENDS
        self.iterations = 0  # that are done, or under way on the device
        self._saved_at = -1  # env steps of the last checkpoint
        self._log: loop.Log | None = None
        self._stop_rule = guard.stop_rule(member.config.stop)
        self._book, self._say = book, say

    def open(self, at: int | None, began: float, built: wave.Wave) -> None:
        """Opens the writers; at: env steps from which it goes on, None if it is new."""
        self.iterations = (at or 0) // built.steps
        # One bar for all of them, not one for each.
        config = ConfigDict(self.member.config.to_dict())
        config.writers = tuple(name for name in config.writers if name != "console")
        self._log = loop.Log(config, self.folder, at, began, built.compile_seconds, built.steps)

    def write(self, pending: Pending, metrics: dict, seconds: float) -> dict | None:
        """Writes the row of an epoch; None if the member is broken."""
        try:
            row = self._log.write(pending.env_steps, metrics, pending.num_steps, seconds)
        except guard.BrokenRunError as mistake:
            if not self.fault:
                self._say(f"{self.member.name}: {mistake}")
            self.fault = self.fault or str(mistake)
        if self.fault:
            return None
        if pending.num_steps:  # what has learned nothing does not stop, as in a run of its own
            self.reason = self.reason or self._stop_rule(row)
        return row

    def is_best(self, row: dict) -> bool:
        """Whether its evaluation is its best so far, which is noted."""
        score = row.get(checkpoint.SCORE, -math.inf)
        best, self._log.best = self._log.best, max(self._log.best, score)
        return score > best

    def save(self, state: TrainState, env_steps: int, row: dict) -> None:
        """Saves, unless that was done, or it is broken; state: its own, on the host."""
        if self._saved_at != env_steps and not self.fault:
            self.saver.save(state, env_steps, row)
            self._saved_at = env_steps

    def end(self, how: str, reason: str, env_steps: int) -> None:
        """Closes what is open and notes the end in the ledger; nothing more is written for this member."""
        self.ended = how
        self.close()
        self._book.note(self.member.name, how, reason, env_steps)
        if how != "interrupted":
            tracking.finish(self.folder, self.member.config, env_steps, self._say)

    def close(self) -> None:
        self.saver.close()
        if self._log:
            self._log.close()
            self._log = None


class Written(NamedTuple):
    """A row that a member has written."""

    seat: Seat
    row: dict
    is_best: bool  # its evaluation is the member's best so far


class Fleet:
    """Epoch after epoch of S members; their rows are fetched while the next epoch already runs.

    Members need not stand at the same env steps, as after a kill that some had saved before: those that lag go first,
    and the others stand still until all are level.
    """

    def __init__(self, seats: list[Seat], built: wave.Wave, signals, folder: Path):
        self._seats, self._wave, self._signals = seats, built, signals
        config = seats[0].member.config
        self.plan = loop.plan(config, built.steps)  # the same of all members, as groups.split has seen to
        self._seeds = built.put_numbers([seat.member.config.seed for seat in seats], np.uint32)
        self._mark = time.perf_counter()  # when the device last came free
        self._host = None  # members' states on the host, once one was asked for since the last epoch
        self._console = None
        if "console" in config.writers:
            at = min(seat.iterations for seat in seats) * built.steps
            self._console = console.make(config, folder, at or None)

    def run(self, states: TrainState, newborn: list[Seat]) -> None:
        """Trains all members to the end of the plan, or until every one has met its own end, or a signal comes.

        Args:
            states: [S].
            newborn: the members whose first evaluation has not been made.
        """
        plan, pending, crew = self.plan, None, newborn
        try:
            if newborn:
                start = Pending(0, self._wave.evaluate(states, self._seeds), 0, time.perf_counter())
                self._write(start, newborn, start.metrics)
            self._retire(states, self._seats)  # who was killed after its last save and before that was noted
            while (crew := self._next()) and not self._signals.received:
                iterations = crew[0].iterations
                length = plan.next_length(iterations)
                lengths = self._wave.put_numbers([length * (seat in crew) for seat in self._seats], np.int32)
                began = time.perf_counter()
                with jax.transfer_guard("disallow"):  # nothing crosses to the host or from it inside an epoch
                    states, metrics = self._wave.epoch(states, lengths)
                self._host = None
                iterations += length
                for seat in crew:
                    seat.iterations = iterations
                before = pending
                pending = (Pending(iterations * plan.env_steps, metrics, length * plan.env_steps, began), crew)
                if before:
                    self._write(*before, before[0].metrics)
                is_evaluated = plan.is_due(iterations, plan.eval_every)
                is_saved = plan.is_due(iterations, plan.save_every) or bool(self._signals.received)
                if is_evaluated or is_saved or any(seat.reason for seat in crew):
                    shown = self._wave.evaluate(states, self._seeds) if is_evaluated else {}
                    written = self._write(*pending, (pending[0].metrics, shown))
                    pending = None
                    states = self._take_stock(states, crew, written, is_saved)
                    self._retire(states, crew)
            if pending:
                self._write(*pending, pending[0].metrics)
            self._interrupt(states)
        finally:
            if self._console:
                self._console.close()

    def _next(self) -> list[Seat]:
        """The members that lag most, of those that have not ended; none where all have."""
        left = [seat for seat in self._seats if not seat.ended]
        lag = min((seat.iterations for seat in left), default=0)
        return [seat for seat in left if seat.iterations == lag]

    def _write(self, pending: Pending, crew: list[Seat], metrics: PyTree) -> list[Written]:
        """Writes the row of each member that went on.

        Args:
            pending: the epoch.
            crew: who went on in it.
            metrics: mappings, [S] each, an evaluation included if there was one.
        """
        jax.block_until_ready(pending.metrics)
        now = time.perf_counter()
        seconds, self._mark = now - max(self._mark, pending.began), now
        values = loop.fetch(metrics)
        written = []
        for index, seat in enumerate(self._seats):
            if seat not in crew or seat.ended:
                continue
            own = {name: value[index] for name, value in values.items()} | self._note(seat, pending)
            row = seat.write(pending, own, seconds)
            if row is None:
                self._lose(seat, pending.env_steps)
            else:
                # The first evaluation, of what has learned nothing, is no checkpoint: as in a run of its own.
                written.append(Written(seat, row, bool(pending.num_steps) and seat.is_best(row)))
        if written and self._console:
            self._console.write(_mean([each.row for each in written]))
        return written

    def _note(self, seat: Seat, pending: Pending) -> dict:
        """What a member's row has beside what its epoch told."""
        del seat, pending
        return {}

    def _lose(self, seat: Seat, env_steps: int) -> None:
        """Ends a member that is broken; its row of env_steps said so."""
        del env_steps
        seat.end("broken", seat.fault, seat.saver.latest() or 0)

    def _take_stock(self, states: TrainState, crew: list[Seat], written: list[Written], is_saved: bool) -> TrainState:
        """Saves each member of the crew that is due or at its best; the states with which all go on."""
        del crew
        for seat, row, is_best in written:
            if is_saved or is_best:
                seat.save(self._state(states, seat), seat.iterations * self.plan.env_steps, row)
        self._mark = time.perf_counter()
        return states

    def _retire(self, states: TrainState, crew: list[Seat]) -> None:
        """Ends the members that are done, and those that have a reason to stop, each saved as it is now."""
        for seat in crew:
            if seat.ended:
                continue
            if seat.iterations >= self.plan.iterations:
                seat.end("done", "", seat.iterations * self.plan.env_steps)
            elif seat.reason:
                seat.save(self._state(states, seat), seat.iterations * self.plan.env_steps, {})
                seat.end("stopped", seat.reason, seat.iterations * self.plan.env_steps)

    def _interrupt(self, states: TrainState) -> None:
        """Saves and closes whoever a signal keeps from its end."""
        for seat in self._seats:
            if not seat.ended:
                env_steps = seat.iterations * self.plan.env_steps
                seat.save(self._state(states, seat), env_steps, {})
                seat.end("interrupted", f"signal {self._signals.received}", env_steps)

    def _state(self, states: TrainState, seat: Seat) -> TrainState:
        """A member's own state, on the host."""
        self._host = self._host or wave.take(states)
        return self._host(self._seats.index(seat))


def _mean(rows: list[dict]) -> dict:
    """One row for the bar: the mean over members of what all of them have; the speed is that of all together."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    row = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    row |= {"env_steps": rows[0]["env_steps"]}
    if console.SPEED in row:
        row[console.SPEED] *= len(rows)
    return row
