"""The training loop of a population: a fleet whose members meet, are compared, and take over from each other.

It goes on bit for bit where it was killed. An exploit is on disk, in lineage.csv, before any state that it made; and a
checkpoint at its env steps is of after it. So whoever is found there has been through it. Whoever lags gets there, with
the others waiting, and is then changed by the same exploit: that follows from the recorded scores, from the parents,
which no exploit changes, and from a key of its own. For that nobody may be more than one exploit ahead of another:
before a member saves again, what all have saved before is on disk.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.acting import population as populations
from jaxrl.envs.wrappers import select
from jaxrl.find import find
from jaxrl.host import checkpoint, loop
from jaxrl.host.keys import error
from jaxrl.host.sweeping import fleet, groups, wave
from jaxrl.host.sweeping.fleet import Seat, Written
from jaxrl.host.sweeping.lineage import Lineage, Row
from jaxrl.host.sweeping.members import Draw, Member
from jaxrl.host.sweeping.population import Population
from jaxrl.types import PyTree, Spec, TrainState


def check(population: Population, together: list[list[Member]], spec: Spec) -> None:
    """ConfigError if the members are not one program, or what was swept is not of the numbers that it may change.

    Args:
        together: as `groups.split` gives them.
        spec: of the environments of the first.
    """
    first = together[0][0]
    if not spec.traceable:
        raise error(
            f"config.env.suite={first.config.env.suite} lives on the host, and a population is one program on the "
            "device; leave --pbt out, or take an environment in JAX"
        )
    group = first.config.algorithm.split(".")[-1]
    hyper = find("algorithms", first.config.algorithm).make(first.config, spec).hyper
    known = [f"{group}.{name}" for name in hyper._fields if np.ndim(getattr(hyper, name)) == 0]
    for name in population.ranges:
        if name not in known:
            raise error(
                f"--pbt cannot change {name} while the population trains; give it by --config.{name}=VALUE, and sweep "
                f"any of {', '.join(known)}"
            )
    for other in (members[0] for members in together[1:]):
        name = _culprit(first, other)
        raise error(
            f"--pbt takes members of one program, and {name}={first.changes[name]} is another than "
            f"{name}={other.changes[name]}; sweep {name} where it is one, or leave it out"
        )


def _culprit(first, other):
    """Which of the keys in which two members differ makes them two programs."""
    for name, value in other.changes.items():
        config = ConfigDict(first.config.to_dict())
        config.update_from_flattened_dict({name: value})
        if len(groups.split([first, first._replace(name="other", config=config)])) > 1:
            return name
    return next(name for name, value in other.changes.items() if value != first.changes[name])


def period(population: Population, config: ConfigDict, plan: loop.Plan) -> int:
    """Iterations from one exploit to the next: whole evaluations, or whole epochs where there are none.

    Raises:
        ConfigError: the run ends before the first.
    """
    unit = plan.per_epoch * (plan.eval_every if config.eval.episodes else 1)
    iterations = unit * max(round(population.interval / (plan.env_steps * unit)), 1)
    if iterations >= plan.iterations:
        raise error(
            f"--pbt={population.interval} is {iterations * plan.env_steps} in whole evaluations, no less than the "
            f"{plan.iterations * plan.env_steps} env steps of the run; give less, or a lower --config.eval.interval"
        )
    return iterations


def level(found: list[tuple[TrainState, int] | None], seats: list[Seat], every: int, restore: Callable) -> list:
    """What each member goes on from: who is beyond the next exploit of the one that lags most falls back to it.

    That does not happen but where checkpoints were lost or damaged.

    Args:
        found: (state, env steps) of each member's newest checkpoint that is sound, None where there is none.
        every: env steps from one exploit to the next.
        restore: (seat, env steps) -> (state, env steps).

    Raises:
        ConfigError: a member has nothing old enough.
    """
    while True:
        at = [each[1] if each else 0 for each in found]
        limit = (min(at) // every + 1) * every
        ahead = [index for index, env_steps in enumerate(at) if env_steps > limit]
        if not ahead:
            return found
        for index in ahead:
            seat, last = seats[index], seats[at.index(min(at))]
            old = max((step for step in seat.saver.steps() if step <= limit), default=None)
            if old is None:
                raise error(
                    f"{last.folder} has lost its checkpoints after {min(at)} env steps, and {seat.folder} keeps none "
                    f"up to {limit} with which it could go on; give a new --workdir"
                )
            found[index] = restore(seat, old)


class Breed(fleet.Fleet):
    """A fleet whose members meet every so many iterations.

    A member that breaks is not at its end: it counts as the worst, and the next exploit makes it a copy of a sound one.
    A reason to stop that one member has is one for all.
    """

    def __init__(
        self,
        seats: list[Seat],
        built: wave.Wave,
        signals,
        folder: Path,
        population: Population,
        say: Callable[[str], None],
    ):
        self._ranges = {name.split(".")[-1]: _range(each) for name, each in population.ranges.items()}
        told = functools.partial(_hyper_of, tuple(self._ranges))
        super().__init__(seats, _telling(built, told), signals, folder)
        config = seats[0].member.config
        self._every = period(population, config, self.plan)
        self._score = checkpoint.SCORE if config.eval.episodes else "rollout/episode_return"
        if not config.eval.episodes:
            self.plan = self.plan._replace(eval_every=self._every // self.plan.per_epoch)
        self._lineage = Lineage(folder, population.ranges)
        self._keys = list(population.ranges)
        self._order = {seat.member.name: index for index, seat in enumerate(seats)}
        self._say = say
        rules = populations.Rules(population.fraction, population.perturb, population.resample)
        self._exploit = jax.jit(
            functools.partial(_exploit, seed=population.seed, ranges=self._ranges, rules=rules),
            out_shardings=(built.place.agent, None),
        )

    def _note(self, seat: Seat, pending: loop.Pending) -> dict:
        """Whose copy a member is, by its number in the population, and how often it was made one."""
        copies = self._lineage.of(seat.member.name, pending.env_steps)
        parent = copies[-1].parent if copies else seat.member.name
        return {"population/parent": np.int32(self._order[parent]), "population/exploits": np.int32(len(copies))}

    def _lose(self, seat: Seat, env_steps: int) -> None:
        """A broken member waits for the next exploit; after the last, it ends."""
        if env_steps > (self.plan.iterations - 1) // self._every * self._every * self.plan.env_steps:
            super()._lose(seat, env_steps)

    def _take_stock(self, states: TrainState, crew: list[Seat], written: list[Written], is_saved: bool) -> TrainState:
        self._wait()
        iterations = crew[0].iterations
        is_met = iterations < self.plan.iterations and iterations % self._every == 0
        if is_met:
            states, written = self._meet(states, crew, written, iterations * self.plan.env_steps)
        return super()._take_stock(states, crew, written, is_saved or is_met)

    def _interrupt(self, states: TrainState) -> None:
        self._wait()
        super()._interrupt(states)

    def _wait(self):
        """Until what all have saved is on disk: before that, nobody may save what comes after."""
        for seat in self._seats:
            seat.saver.wait()

    def _meet(self, states, crew, written, env_steps) -> tuple[TrainState, list[Written]]:
        """The exploit: the states after it, and what is to be saved of each of the crew."""
        rows = {each.seat.member.name: each.row for each in written}
        past = self._lineage.at(env_steps)
        if not past and len(crew) < len(self._seats):
            raise error(
                f"{self._lineage.path} lacks the exploit at {env_steps} env steps, which some members have made; "
                "restore the file, or give a new --workdir"
            )
        names = [seat.member.name for seat in self._seats]
        score = np.float32(
            [past[name].score if past else rows.get(name, {}).get(self._score, np.nan) for name in names]
        )
        has_come = np.array([seat in crew for seat in self._seats])
        agent, parent = self._exploit(np.int32(crew[0].iterations), states.agent, score, has_come)
        parent = np.asarray(parent)
        if not past:
            before, after = self._numbers(states.agent), self._numbers(agent)
            self._lineage.add(
                [
                    Row(env_steps, name, names[parent[i]], score[i].item(), before[i], after[i])
                    for i, name in enumerate(names)
                ]
            )
            self._say(_line(env_steps, parent, score))
        self._host = None
        kept = []
        for index, seat in enumerate(self._seats):
            if seat not in crew:
                continue
            row = rows.get(seat.member.name, {})
            if parent[index] != index:
                seat.fault = ""
                if self._score == checkpoint.SCORE:  # what the checkpoint holds was measured as its parent
                    row = row | {checkpoint.SCORE: score[parent[index]].item()}
            elif seat.fault:  # nobody is sound
                super()._lose(seat, env_steps)
                continue
            kept.append(Written(seat, row, is_best=False))
        return states._replace(agent=agent), kept

    def _numbers(self, agent: PyTree) -> list[dict[str, float]]:
        """By dotted key, what each member has of the numbers that change."""
        columns = jax.device_get([getattr(agent.hyper, name) for name in self._ranges])
        return [dict(zip(self._keys, map(float, row), strict=True)) for row in zip(*columns, strict=True)]

    def _retire(self, states: TrainState, crew: list[Seat]) -> None:
        reason = next((f"{seat.member.name}: {seat.reason}" for seat in crew if seat.reason), "")
        if reason:
            crew = [seat for seat in self._seats if not seat.ended]
        for seat in crew:
            seat.reason = seat.reason or reason
            if seat.reason and seat.fault and not seat.ended:
                super()._lose(seat, seat.iterations * self.plan.env_steps)
        super()._retire(states, crew)


def _exploit(iterations, agents, score, has_come, *, seed, ranges, rules):
    """As `populations.exploit`, of those that have come to it now; the others have been through it."""
    key = jax.random.fold_in(jax.random.key(seed), iterations)
    changed, parent = populations.exploit(key, agents, score, ranges, rules)
    return select(has_come, changed, agents), parent


def _hyper_of(names, states):
    """The numbers that change, as metrics; copies, because the states are gone after the next epoch."""
    return {f"hyper/{name}": jnp.copy(getattr(states.agent.hyper, name)) for name in names}


def _telling(built: wave.Wave, told: Callable) -> wave.Wave:
    """A wave whose metrics have the numbers that change, as they are after the epoch."""

    def epoch(states, lengths):
        states, metrics = built.epoch(states, lengths)
        return states, (metrics, told(states))

    return built._replace(epoch=epoch, evaluate=lambda states, seeds: (built.evaluate(states, seeds), told(states)))


def _range(swept: Draw | tuple[float, ...]) -> populations.Range:
    if isinstance(swept, Draw):
        return populations.DRAWS[swept.kind](swept.low, swept.high)
    return populations.choice(swept)


def _line(env_steps, parent, score):
    """How many were copied, and how far apart they were."""
    copied, sound = int((parent != np.arange(parent.size)).sum()), score[np.isfinite(score)]
    spread = f"; scores {sound.min():.6g} to {sound.max():.6g}, median {np.median(sound):.6g}" if sound.size else ""
    broken = f", {parent.size - sound.size} without a score" if sound.size < parent.size else ""
    return f"exploit at {env_steps:,} env steps: {copied} of {parent.size} became copies{spread}{broken}"
