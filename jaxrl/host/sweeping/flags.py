"""The flags of an engine: the fields of its Options that have a default, with what stands behind each in the source."""

import textwrap
import typing
from types import ModuleType
from typing import Any

from jaxrl import find
from jaxrl.host import keys
from jaxrl.host.keys import Key, error
from jaxrl.types import ConfigError

COLUMN = 25  # of the help
WIDTH = 118


def table(engine: ModuleType) -> dict[str, Key]:
    """The flags of an engine by name, without --."""
    kinds, comments = typing.get_type_hints(engine.Options), keys.comments_of(engine.Options)
    limits, choices = getattr(engine, "LIMITS", {}), getattr(engine, "CHOICES", {})
    return {
        name: Key(default, kinds[name], False, limits.get(name), choices.get(name), comments.get(name, ""))
        for name, default in engine.Options._field_defaults.items()
    }


def find_engine(name: str) -> ModuleType:
    """The engine that --engine names.

    Raises:
        ConfigError: there is none, or it is no engine.
    """
    try:
        engine = find.find("host.engines", name)
    except ConfigError:
        raise error(f"--engine={name} is not known; {find.nearest(name, find.names('host.engines'))}") from None
    if not all(hasattr(engine, part) for part in ("Options", "crew", "run")):
        raise error(f"--engine={name} has not all of Options, crew and run; jaxrl/host/engines says what they are")
    return engine


def read(name: str, given: dict[str, str]) -> dict[str, Any]:
    """The options of the engine called `name`, of the texts of its flags.

    Raises:
        ConfigError: it has no such flag, or a value is of the wrong type, out of range or no choice.
    """
    known = table(find_engine(name))
    for flag, text in given.items():
        if flag not in known:
            engines = [other for other in find.names("host.engines") if flag in table(find_engine(other))]
            raise error(f"--{flag}={keys.clip(text)} is a flag of --engine={engines[0]}, not of --engine={name}")
    return {flag: keys.check(flag, keys.parse(text, known[flag]), known[flag], "--") for flag, text in given.items()}


def names(argv: list[str]) -> list[str]:
    """The flags of all engines of jaxrl/host/engines, and of the one of a user's own that a command line names."""
    private = [word.partition("=")[2] for word in argv if word.startswith("--engine=") and "." in word]
    return [flag for engine in [*find.names("host.engines"), *private] for flag in table(find_engine(engine))]


def text() -> str:
    """What --help says of them."""
    return "".join(
        f"\nOf --engine={engine}:\n" + "".join(_line(name, key) for name, key in table(find_engine(engine)).items())
        for engine in find.names("host.engines")
    )


def _line(name, key):
    value = "|".join(key.choices) if key.choices else key.default if key.default != "" else "TEXT"
    told = textwrap.wrap(key.comment, WIDTH - COLUMN) or [""]
    head = f"  --{name}={value}"
    lines = [(head.ljust(COLUMN) + told.pop(0)).rstrip()] if len(head) < COLUMN else [head]
    return "\n".join([*lines, *(" " * COLUMN + line for line in told)]) + "\n"
