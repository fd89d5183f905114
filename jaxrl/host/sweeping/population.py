"""What a user asks of a population: when members are compared, how many are copied over, and what changes in a copy.

No JAX here: a mistyped command line is refused before that has loaded.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl import find
from jaxrl.host import keys
from jaxrl.host.keys import error
from jaxrl.host.sweeping.members import Axes, Draw, Member


class Population(NamedTuple):
    """How the members of a sweep become a population."""

    interval: int  # env steps of each member between two exploits; rounded to whole evaluations
    fraction: float = 0.2  # of the members that is copied over each time, and from which copies are taken
    perturb: tuple[float, ...] = (0.8, 1.2)  # one of these multiplies a swept number in a copy
    resample: float = 0.25  # probability that a number is drawn anew from what was swept instead
    seed: int = 0  # of what is random in it
    ranges: Mapping[str, Draw | tuple[float, ...]] = {}  # by dotted key: what was swept, and may change

    def told(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        ranges = {name: str(each) if isinstance(each, Draw) else list(each) for name, each in self.ranges.items()}
        return self._asdict() | {"perturb": list(self.perturb), "ranges": ranges}


FLAGS = {"interval": "--pbt", "fraction": "--pbt_fraction", "perturb": "--pbt_perturb", "resample": "--pbt_resample",
         "seed": "--sweep_seed", "ranges": "--sweep"}  # fmt: skip


def parse(texts: Mapping[str, str]) -> dict[str, Any] | None:
    """What the flags say, for `make`; None where there is no --pbt.

    Args:
        texts: by flag's name without its dashes; others are left alone.

    Raises:
        ConfigError: a value is no number, or a flag has no --pbt beside it.
    """
    told = {name: texts[flag[2:]] for name, flag in FLAGS.items() if flag.startswith("--pbt") and flag[2:] in texts}
    if told and "interval" not in told:
        raise error(f"{FLAGS[next(iter(told))]} is of a population; give --pbt=ENV_STEPS too")
    return {
        name: tuple(_number(name, part) for part in text.split(",")) if name == "perturb" else _number(name, text)
        for name, text in told.items()
    } or None


def make(asked: int | Mapping[str, Any] | None, members: Sequence[Member], axes: Axes, seed: int) -> Population | None:
    """The population that is asked for, if one is.

    Args:
        asked: env steps between exploits, or fields of Population.
        members: of the sweep.
        axes: as `members.parse` gives them.
        seed: of what is random in it.

    Raises:
        ConfigError: a number is out of range, or the members are no population.
    """
    if asked is None:
        return None
    asked = dict(asked) if isinstance(asked, Mapping) else {"interval": asked}
    known = [name for name in Population._fields if name not in ("seed", "ranges")]
    for name in asked:
        if name not in known:
            raise error(f"pbt={{{name!r}: ...}} is not known; {find.nearest(name, known)}")
    if "interval" not in asked:
        raise error("pbt has no 'interval'; give the env steps between two exploits")
    if "perturb" in asked:
        asked["perturb"] = tuple(np.atleast_1d(np.array(asked["perturb"], object)))
    made = Population(**asked, seed=seed, ranges=_ranges(members, axes))
    _check(made, members)
    return made._replace(
        interval=int(made.interval),
        fraction=float(made.fraction),
        perturb=tuple(map(float, made.perturb)),
        resample=float(made.resample),
    )


def _check(made, members):
    total = members[0].config.total_env_steps
    is_steps = _is_number(made.interval) and made.interval == int(made.interval) > 0
    is_share = _is_number(made.fraction) and 0 < made.fraction <= 0.5
    are_factors = bool(made.perturb) and all(_is_number(x) and x > 0 for x in made.perturb)
    is_probability = _is_number(made.resample) and 0 <= made.resample <= 1
    for name, is_good, cure in (
        ("interval", is_steps, "a number of env steps"),
        ("interval", is_steps and made.interval < total, f"below config.total_env_steps={total}"),
        ("fraction", is_share, "above 0 and at most 0.5"),
        ("perturb", are_factors, "factors above 0, such as 0.8,1.2"),
        ("resample", is_probability, "a probability, from 0 to 1"),
    ):
        if not is_good:
            raise error(f"{FLAGS[name]}={keys.show(getattr(made, name))} must be {cure}")
    if len(members) < 2:
        raise error("--pbt makes a population of the members, and there is one; give more, by --samples or --seeds")
    if not made.ranges:
        example = "--sweep='ppo.learning_rate=loguniform(1e-4,1e-2)' --samples=8"
        raise error(f"--pbt changes what is swept, and nothing is but the seed; name a number: {example}")


def _ranges(members, axes):
    """What each swept key but the seed may become: its draw, or the values that the members have of it."""
    ranges = {}
    for name, values in axes.items():
        if name != "seed":
            held = {member.changes[name]: None for member in members}
            if not all(map(_is_number, held)):
                raise error(f"--pbt multiplies what is swept, but {name}={keys.show(next(iter(held)))} is no number; "
                            f"give it by --config.{name}=VALUE")  # fmt: skip
            ranges[name] = values if isinstance(values, Draw) else tuple(sorted(map(float, held)))
    return ranges


def _number(name, text):
    try:
        return int(text) if name == "interval" else float(text)
    except ValueError:
        example = {"interval": "100000", "perturb": "0.8,1.2"}.get(name, "0.25")
        raise error(f"{FLAGS[name]}={keys.clip(text)} cannot be read; write {FLAGS[name]}={example}") from None


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
