"""The members of a sweep: a grid of values, random draws and seeds, made into configs with a name each.

ppo.learning_rate=1e-4,3e-4,1e-3 ppo.entropy_cost=0,1e-2       a grid: every combination
ppo.learning_rate=loguniform(1e-5,1e-2)                        `samples` draws; of two keys, drawn together
network.hidden_sizes=(64,64),(256,256)                         a value with commas stands in brackets
"""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxrl import find
from jaxrl.host import config as configs
from jaxrl.host import keys
from jaxrl.host.keys import error

DRAWS = {
    "uniform": lambda random, low, high: random.uniform(low, high),
    "loguniform": lambda random, low, high: math.exp(random.uniform(math.log(low), math.log(high))),
}
DIGITS = 4  # significant ones of a draw, so that a folder's name tells it whole
NAME_LENGTH = 150  # characters of a folder's name; file systems take 255 bytes
MANY = 10_000  # members; more are a slip of the keyboard

Axes = dict[str, "Sequence | Draw"]


class Draw(NamedTuple):
    """Values drawn at random between two bounds."""

    kind: str  # of DRAWS
    low: float
    high: float

    def __str__(self):
        return f"{self.kind}({self.low:g},{self.high:g})"


class Request(NamedTuple):
    """What is asked for: the arguments of `make`."""

    partial: ConfigDict | Mapping  # with `overrides` as `config.resolve` takes them
    overrides: Mapping | Iterable[tuple[str, Any]] = ()
    axes: Axes = {}  # as `parse` gives them
    seeds: Sequence[int] | int | None = None  # of each setting, or how many; None is as many as the config's `seeds`
    samples: int = 0  # of the keys that are drawn
    sweep_seed: int = 0  # from which the draws follow
    own_seeds: bool = False  # whether each setting has one of its own where nothing says which


class Member(NamedTuple):
    """One run of a sweep."""

    name: str  # of its folder
    config: ConfigDict  # resolved
    changes: dict[str, Any]  # by dotted key: what is its own, the seed last


def parse(text: str) -> Axes:
    """What --sweep says: the values of each key, as texts, or how they are drawn.

    Raises:
        ConfigError: it cannot be read; one line with the cure.
    """
    axes: Axes = {}
    for word in _split(text, str.isspace):
        name, equals, values = word.partition("=")
        name = name.removeprefix("--config.").removeprefix("config.")
        if not (name and equals and values):
            raise error(f"--sweep={keys.clip(text)}: {word!r} is no KEY=VALUE,VALUE; write ppo.learning_rate=1e-4,1e-3")
        if name in axes:
            raise error(f"--sweep={keys.clip(text)} names {name} twice; put all its values into one list")
        axes[name] = axis(name, values)
    return axes


def axis(name: str, values: Any) -> Sequence | Draw:
    """The values of one key: of a text as the command line means it, of a list the list.

    Raises:
        ConfigError: no such distribution, or bounds that are none.
    """
    if not isinstance(values, str):
        values = list(values) if isinstance(values, Iterable) else [values]
        if not values:
            raise error(f"--sweep: {name} has no value; give at least one")
        return values
    found = re.fullmatch(r"([a-z_]+)\((.*)\)", values.strip())
    if not found:
        return [part.strip() for part in _split(values, ",".__eq__)]
    kind, bounds = found[1], found[2].split(",")
    if kind not in DRAWS:
        raise error(f"--sweep: {name}={values} is not known; {find.nearest(kind, list(DRAWS))}")
    try:
        low, high = map(float, bounds)
        is_good = math.isfinite(low) and math.isfinite(high) and low < high and (kind == "uniform" or low > 0)
    except ValueError:
        is_good = False
    if not is_good:
        positive = "0 < " if kind == "loguniform" else ""
        raise error(f"--sweep: {name}={values} must be {kind}(LOW,HIGH) with {positive}LOW < HIGH")
    return Draw(kind, low, high)


def make(
    partial: ConfigDict | Mapping,
    overrides: Mapping | Iterable[tuple[str, Any]],
    axes: Axes,
    seeds: Sequence[int] | int | None = None,
    samples: int = 0,
    sweep_seed: int = 0,
    own_seeds: bool = False,
) -> list[Member]:
    """Every member: each combination of the grid, with each draw, with each seed.

    Args:
        partial, overrides: as `config.resolve` takes them.
        axes: as `parse` gives them.
        seeds: of each setting, or how many from the config's own `seed` on; None is as many as the config's `seeds`.
        samples: of the keys that are drawn; the same draws at every point of the grid.
        sweep_seed: from which the draws follow; it has nothing to do with the seeds of the runs.
        own_seeds: where nothing says which seeds, each setting has one of its own, from the config's `seed` on; else
            all have that.

    Raises:
        ConfigError: a key does not exist, a value is of the wrong type or out of range, or two members are the same.
    """
    request = Request(partial, overrides, axes, seeds, samples, sweep_seed, own_seeds)
    base = resolved(request)
    grid = {name: values for name, values in axes.items() if not isinstance(values, Draw)}
    drawn = {name: draw for name, draw in axes.items() if isinstance(draw, Draw)}
    if bool(drawn) != bool(samples):
        example = f"{next(iter(drawn), 'ppo.learning_rate')}={next(iter(drawn.values()), 'loguniform(1e-5,1e-2)')}"
        raise error(f"--samples={samples} does not fit --sweep; random draws take both: {example} and --samples=16")
    alike = _seeds(request, base)
    has_one_each = own_seeds and seeds is None and "seed" not in axes and base.seeds == 1
    count = math.prod(map(len, grid.values())) * max(samples, 1) * len(alike)
    if count > MANY:
        raise error(f"--sweep makes {count:,} members; give fewer values, at most {MANY:,} members")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    settings = [point | draws for point in points for draws in _draw(drawn, samples, sweep_seed, base)]
    members = [
        one(request, setting | seed)
        for number, setting in enumerate(settings)
        for seed in ([{"seed": base.seed + number}] if has_one_each else alike)
    ]
    return _named(members)


def resolved(request: Request) -> ConfigDict:
    """The config that all members have in common, before their changes.

    Raises:
        ConfigError: as `make`.
    """
    base = configs.resolve(request.partial, list(dict(request.overrides).items()))
    if "seeds" in request.axes or ("seed" in request.axes and (request.seeds or base.seeds > 1)):
        raise error("--sweep names the seeds, and so does another flag; give them by --seeds alone")
    return base


def beside(crew: list[Member], request: Request, setting: Mapping[str, Any]) -> list[Member]:
    """The members of a setting that was found later, one for each seed, with names that no member of the crew has.

    Raises:
        ConfigError: as `make`.
    """
    new = [one(request, {**setting, **seed}) for seed in _seeds(request, resolved(request))]
    return _named([*crew, *new])[len(crew) :]


def one(request: Request, setting: Mapping[str, Any]) -> Member:
    """The member with these values of its own, by dotted key, the seed among them; its name may be another's too."""
    overrides = [*dict(request.overrides).items(), *setting.items(), ("seeds", 1)]
    config = configs.resolve(request.partial, overrides)
    held = dict(keys.leaves(config))
    return Member(",".join(f"{name}={_text(held[name])}" for name in setting) or "run", config,
                  {name: held[name] for name in setting})  # fmt: skip


def fitting(value: float, draw: Draw, default: Any) -> int | float:
    """A drawn value as a member has it: whole where the key's default is, of few digits where it is not."""
    is_whole = isinstance(default, int) and not isinstance(default, bool)
    # Rounding may step over a bound, which the user may have set for a reason.
    value = round(value) if is_whole else float(f"{value:.{DIGITS}g}")
    return min(max(value, draw.low), draw.high)


def parse_seeds(text: str) -> list[int] | int:
    """What --seeds says: '8' is how many, '0,3,5' (or '3,') is which."""
    words = [word for word in text.split(",") if word.strip()]
    if not words or not all(word.strip().isdecimal() for word in words):
        raise error(f"--seeds={keys.clip(text)} must be a number of seeds, or a list of them, such as 8 or 0,3,5")
    numbers = [int(word) for word in words]
    if "," not in text and numbers[0] < 1:
        raise error(f"--seeds={text} is out of range; the nearest is 1")
    return numbers if "," in text else numbers[0]


def _split(text, is_border):
    """The parts between borders that stand outside of brackets and quotes; empty ones are left out."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += (letter in "([") - (letter in ")]")
        if is_border(letter) and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def _draw(drawn, samples, sweep_seed, base):
    """[{key: value}] of each sample; one empty one where nothing is drawn."""
    random, held = np.random.default_rng(sweep_seed), dict(keys.leaves(base))
    draws = []
    for _ in range(max(samples, 1)):
        values = {}
        for name, draw in drawn.items():
            values[name] = fitting(DRAWS[draw.kind](random, draw.low, draw.high), draw, held.get(name))
        draws.append(values)
    return draws


def _seeds(request, base):
    """[{'seed': seed}] of each member of a setting; one empty one where the seed is an axis like any other."""
    seeds = request.seeds
    if seeds is None and "seed" not in request.axes:
        seeds = base.seeds
    if isinstance(seeds, int):
        seeds = [base.seed + i for i in range(seeds)]
    return [{"seed": seed} for seed in seeds or []] or [{}]


def _text(value):
    """A value as a part of a file's name."""
    if isinstance(value, tuple | list):
        return "x".join(map(_text, value)) or "none"
    text = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    return re.sub(r"[^\w.+-]+", "_", text) or "none"


def _named(members):
    """The members, each with a name of its own that any file system takes; ConfigError where two are the same."""
    settings: dict[tuple, Member] = {}
    for member in members:
        identity = tuple(sorted((name, repr(value)) for name, value in member.changes.items()))
        if identity in settings:
            raise error(f"--sweep: {keys.clip(member.name)} is there twice; leave one of the equal values out")
        settings[identity] = member
    lowered = [member.name.lower() for member in members]  # some file systems do not tell A from a
    named = []
    for member, identity in zip(members, settings, strict=True):
        name = member.name
        if lowered.count(name.lower()) > 1 or len(name) > NAME_LENGTH:
            name = f"{name[:NAME_LENGTH]}-{hashlib.sha256(repr(identity).encode()).hexdigest()[:8]}"
        named.append(member._replace(name=name))
    return named
