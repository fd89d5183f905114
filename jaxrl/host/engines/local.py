"""Trains a sweep on this machine: the members of one program together, in waves that fit into memory."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

from jaxrl.find import find
from jaxrl.host import guard, loop, program, run_folder, sharding
from jaxrl.host.keys import error
from jaxrl.host.sweeping import breeding, fleet, groups, wave
from jaxrl.host.sweeping.ledger import Ledger
from jaxrl.host.sweeping.members import Member, Request, make

Say = Callable[[str], None]
BREEDS = True  # can train a population, `book.population`; an engine without this says so


LIMITS = {"wave": (0, None)}
CHOICES = {"mapping": tuple(wave.MAPPINGS)}


class Options(NamedTuple):
    """How a sweep is trained; it changes no result but for the rounding of `mapping`."""

    command_line: list[str]  # for the record
    request: Request
    wave: int = 0  # runs at once; 0 = as many as fit into memory
    mapping: str = ""  # one after the other, bit for bit the runs alone (a CPU's default), or side by side (elsewhere)


def crew(options: Options) -> list[Member]:
    """All that is asked for.

    Raises:
        ConfigError: as `members.make`.
    """
    return make(*options.request)


def run(book: Ledger, options: Options, say: Say) -> int:
    """Trains every member that has not ended, each from its own newest checkpoint.

    Args:
        book: of the sweep.
        options: how.
        say: takes what there is to tell, a line at a time.

    Returns:
        The signal that ended it, 0 if none did.

    Raises:
        ConfigError: a member cannot be built, or its folder holds something else.
    """
    program.use_compilation_cache()
    left = [member for member in book.members if not book.is_settled(member)]
    if left and book.population:  # whoever has ended may still be somebody's parent
        left = book.members
    if len(left) < len(book.members):
        say(f"{len(book.members) - len(left)} of {len(book.members)} members have ended before")
    together = groups.split(left)
    if left and book.population:
        breeding.check(book.population, together, _spec(left[0].config))
    mesh = sharding.mesh()
    device = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    if left:
        say(f"jaxrl sweeps {len(left)} members on {device}, programs: {len(together)}; folder {book.folder}")
    with contextlib.ExitStack() as stack:
        signals = None
        for number, members in enumerate(together):
            config = members[0].config
            spec = _spec(config)
            if not spec.traceable:  # the ordinary loop catches signals itself
                if received := _alone(members, book, options, say):
                    return received
                continue
            signals = signals or stack.enter_context(guard.Signals())
            say(f"program {number + 1} of {len(together)}: {len(members)} members of {config.env.name}")
            _train(members, spec, book, options, signals, mesh, say)
            if signals.received:
                return signals.received
    return 0


def _spec(config):
    from jaxrl import envs

    return envs.make(config.env, config[config.algorithm.split(".")[-1]].num_envs).spec


def _alone(members: list[Member], book: Ledger, options: Options, say: Say) -> int:
    """Members whose environments live on the host: run after run."""
    for member in members:
        book.note(member.name, "waiting", "", 0)
        try:
            done = loop.train(member.config, book.path(member), options.command_line, say)
        except guard.BrokenRunError as mistake:
            say(f"{member.name}: {mistake}")
            book.note(member.name, "broken", str(mistake), 0)
            continue
        how = "interrupted" if done.signal else "stopped" if done.reason else "done"
        book.note(member.name, how, done.reason, done.env_steps)
        if done.signal:
            return done.signal
    return 0


def _train(members, spec, book, options, signals, mesh, say) -> None:
    """The members of one program, wave after wave, until all have ended or a signal comes."""
    mapping = options.mapping or wave.default_mapping(mesh)
    devices = {"kind": mesh.devices.flat[0].device_kind, "count": mesh.size}
    size = min(options.wave or len(members), len(members))
    if book.population and size < len(members):
        raise error(f"--wave={size} cuts a population of {len(members)}, which learns together; leave --wave out")
    built: dict[int, wave.Wave] = {}
    for member in members:
        book.note(member.name, "waiting", "", book.status(member)["env_steps"])
        run_folder.open_run(book.path(member), member.config, options.command_line, devices, spec)
    while members and not signals.received:
        began = time.perf_counter()
        now = members[:size]
        if len(now) not in built:
            say(f"compiling for {len(now)} members ...")
            fresh = wave.compile(now[0].config, _hyper(now[0], spec), len(now), mesh, mapping)
            free = wave.free_bytes(mesh)
            of = f" of {free / 1e6:,.0f} MB that are free" if free else ""
            say(f"compiled in {fresh.compile_seconds:.1f} s; a device needs {fresh.num_bytes / 1e6:,.1f} MB{of}")
            if free and fresh.num_bytes > free and len(now) > 1 and not options.wave:
                size = wave.fitting(len(now), len(members), fresh.num_bytes, free, mesh.size)
                if book.population:
                    raise error(
                        f"a population of {len(members)} needs {fresh.num_bytes / 1e6:,.1f} MB at once{of}; take about "
                        f"{size} members, fewer environments, or more devices"
                    )
                say(f"that does not fit: {size} members at a time")
                continue
            built = {len(now): fresh}  # one at a time: compiled programs take memory too
        _sail(now, spec, built[len(now)], book, signals, began, say)
        members = members[len(now) :]


def _sail(members, spec, built, book, signals, began, say) -> None:
    """Trains a wave, each member from its own newest checkpoint that is sound, or from its beginning."""
    with contextlib.ExitStack() as stack:
        seats = []
        for member in members:
            seats.append(fleet.Seat(member, book.path(member), book, say))
            stack.callback(seats[-1].close)

        def init(seat):
            return built.init(seat.member.config.seed, _hyper(seat.member, spec))

        def restore(seat, env_steps=None):
            found = seat.saver.restore(built.template, env_steps, complete=functools.partial(init, seat))
            return found and (wave.to_host(found[0]), found[1])

        found = [restore(seat) for seat in seats]
        if book.population:
            every = breeding.period(book.population, members[0].config, loop.plan(members[0].config, built.steps))
            found = breeding.level(found, seats, every * built.steps, restore)
        states = [each[0] if each else wave.to_host(init(seat)) for each, seat in zip(found, seats, strict=True)]
        newborn = [seat for each, seat in zip(found, seats, strict=True) if not each]
        for each, seat in zip(found, seats, strict=True):
            seat.open(each and each[1], began, built)
        if len(newborn) < len(seats):
            at = sorted({seat.iterations * built.steps for seat in seats})
            say(f"goes on from {' and '.join(f'{steps:,}' for steps in at)} env steps")
        make = (
            functools.partial(breeding.Breed, population=book.population, say=say) if book.population else fleet.Fleet
        )
        make(seats, built, signals, book.folder).run(wave.put(states, built.place), newborn)


def _hyper(member, spec):
    config = member.config
    return find("algorithms", config.algorithm).make(config, spec).hyper
