"""The keys that a config may set: their defaults, types, ranges and choices, and the check of a value against them.

A key is a dotted name such as `ppo.gamma`. Its default, range and choices stand beside the code that reads it, in
`default_config()`, `LIMITS` and `CHOICES` of the module that owns its group; here they come together in one table.
"""

import contextlib
import difflib
import importlib
import inspect
import math
import numbers
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxrl import find
from jaxrl.types import ConfigError

# Keys whose values name the module that holds other keys: the folder in which it is found.
PARTS = {"algorithm": "algorithms", "env.suite": "envs"}

# What other trainers call our keys.
ALIASES = {
    "algo": "algorithm",
    "clip_coef": "clip",
    "clip_eps": "clip",
    "clip_epsilon": "clip",
    "clip_range": "clip",
    "discount": "gamma",
    "e_clip": "clip",
    "ent_coef": "entropy_cost",
    "entropy_coef": "entropy_cost",
    "env": "env.name",
    "env_id": "env.name",
    "gae_lambda": "lambda_",
    "horizon_length": "unroll_length",
    "lambda": "lambda_",
    "lmbda": "lambda_",
    "lr": "learning_rate",
    "max_grad_norm": "max_gradient_norm",
    "mini_epochs": "update_epochs",
    "n": "total_env_steps",
    "n_envs": "num_envs",
    "n_epochs": "update_epochs",
    "n_steps": "unroll_length",
    "num_epochs": "update_epochs",
    "num_steps": "unroll_length",
    "num_timesteps": "total_env_steps",
    "task": "env.name",
    "tau": "lambda_",
    "total_frames": "total_env_steps",
    "total_timesteps": "total_env_steps",
    "vf_coef": "value_cost",
}

KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


class Key(NamedTuple):
    """What a config may set: one number, text, or tuple of them."""

    default: Any
    kind: type  # of the value, or of each element of a tuple; object if it is not known
    is_tuple: bool
    limits: tuple | None  # (low, high), inclusive, None = open; of each element of a tuple
    choices: tuple | None  # of each element of a tuple
    comment: str  # what stands behind the default in the source


def table(algorithm: str = "ppo", suite: str = "brax") -> dict[str, Key]:
    """All keys by dotted name, as the modules that read them declare them.

    Raises:
        ConfigError: there is no such algorithm or suite.
    """
    keys = {}
    for group, module in _modules(algorithm, suite):
        keys |= _keys_of(module, group)
    return keys


def lookup(keys: dict[str, Key], name: str, value: Any) -> Key:
    """The key of that name; the value only serves the message.

    Raises:
        ConfigError: there is none; the message has the nearest.
    """
    if name in keys:
        return keys[name]
    inside = in_group(keys, name)
    if inside:
        raise error(f"config.{name}={show(value)} sets a group; set a key of it, such as config.{inside[0]}")
    near = same_meaning(keys, name) or nearest(keys, name)
    value = f"={clip(value) if isinstance(value, str) else show(value)}"
    cure = f"did you mean config.{near}{value}?" if near else "--help_config lists all keys"
    raise error(f"config.{clip(name)}{'' if near else value} is not a key; {cure}")


def in_group(keys: dict[str, Key], name: str) -> list[str]:
    """The keys of the group of that name; none if it is no group."""
    return [key for key in keys if key.startswith(f"{name}.")]


def same_meaning(keys: dict[str, Key], name: str) -> str | None:
    """The key that ends in the last word of `name`, or in our word for it; None if there is none."""
    word = name.split(".")[-1]
    target = ALIASES.get(word, word)
    same = [key for key in keys if key == target or key.endswith(f".{target}")]
    return (difflib.get_close_matches(name, same, n=1, cutoff=0.0) or [None])[0]


def nearest(keys: dict[str, Key], name: str) -> str | None:
    """The key spelt most like `name`, also if it is in another group; None if there is none."""
    words = {key.split(".")[-1]: key for key in keys}
    whole = difflib.get_close_matches(name, keys, n=1)
    last_word = difflib.get_close_matches(name.split(".")[-1], words, n=1)
    return whole[0] if whole else words[last_word[0]] if last_word else None


def parse(text: str, key: Key) -> Any:
    """What a text of the command line means for a key; the text itself, which `check` refuses, if it means nothing.

    A tuple is written (64, 64) or 64,64; what may be None is unset by none.
    """
    if key.default is None and text.lower() == "none":
        return None
    if not key.is_tuple:
        return _parse_one(text, key.kind)
    text = text.strip()
    inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    parts = [part.strip().strip("'\"") for part in inner.split(",")]
    if not parts[-1]:  # '64,' is a tuple of one, '' of none
        parts.pop()
    return tuple(_parse_one(part, key.kind) for part in parts)


def check(name: str, value: Any, key: Key, prefix: str = "config.") -> Any:
    """The value as the resolved config holds it: 1e6 as an int where one is due, a list as a tuple.

    Args:
        name: of the key; `prefix` stands before it in messages.
        value: to be checked.
        key: what it must be.
        prefix: '--' of a flag.

    Raises:
        ConfigError: the value is of the wrong type, not finite, out of range or no choice.
    """
    if value is None and key.default is None:
        return None
    name = f"{prefix}{name}"
    try:
        elements = tuple(_typed(element, key.kind) for element in (_elements(value) if key.is_tuple else (value,)))
    except (TypeError, OverflowError):
        kind = KINDS.get(key.kind, "a number or a text")
        kind = f"a tuple, each element {kind}" if key.is_tuple else kind
        raise error(f"{name}={show(value)} must be {kind}, such as {show(key.default)}") from None
    result = elements if key.is_tuple else elements[0]
    _check_finite(name, result, elements, key)
    _check_range(name, result, elements, key)
    _check_choice(name, result, elements, key)
    return result


def error(message: str) -> ConfigError:
    """A ConfigError whose message is one printable line, whatever the user typed into it."""
    printable = "".join(letter if letter.isprintable() else " " for letter in message)
    return ConfigError(" ".join(printable.split()))


def show(value: Any) -> str:
    """A value as a message shows it."""
    return clip(repr(value))


def clip(text: str, length: int = 120) -> str:
    """The text, cut if it would drown the message that it stands in."""
    return text if len(text) <= length else text[: length - 1] + "…"


def interval(limits: tuple) -> str:
    """(0.0, None) → 'in [0, inf)'."""
    low, high = limits
    return f"in {'(-inf' if low is None else f'[{low:.12g}'}, {'inf)' if high is None else f'{high:.12g}]'}"


def leaves(config: ConfigDict | Mapping, prefix: str = ""):
    """Yields (dotted name, value) of nested mappings; an empty mapping is a leaf."""
    config = config.to_dict() if isinstance(config, ConfigDict) else config
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# Where the keys come from.


def _modules(algorithm: str, suite: str) -> list[tuple[str, ModuleType]]:
    """(group, module with its defaults) for every group; '' where a module names its groups itself."""
    return [
        ("", importlib.import_module("jaxrl.host.config")),
        ("env", importlib.import_module("jaxrl.envs")),
        ("env", _part("env.suite", suite)),
        ("network", importlib.import_module("jaxrl.networks.actor_critic")),
        (algorithm.split(".")[-1], _part("algorithm", algorithm)),
        ("eval", importlib.import_module("jaxrl.host.evaluation")),
        ("checkpoint", importlib.import_module("jaxrl.host.checkpoint")),
        ("", importlib.import_module("jaxrl.host.guard")),  # stop and guard
        ("tracking", importlib.import_module("jaxrl.host.tracking")),
    ]


def _part(name, value):
    """The module that the key `name` means by its value."""
    try:
        module = find.find(PARTS[name], value)
    except ConfigError as mistake:
        raise error(f"config.{name}={show(value)} cannot be: {mistake}") from None
    except Exception as mistake:  # a private part may fail in any way as it is imported
        cause = f"{type(mistake).__name__}: {mistake}"
        raise error(f"config.{name}={show(value)} cannot be imported ({cause}); correct that module") from mistake
    if not hasattr(module, "default_config"):
        raise error(f"config.{name}={show(value)} names a module without default_config(); choose another or add it")
    return module


def _keys_of(module, group):
    limits, choices = getattr(module, "LIMITS", {}), getattr(module, "CHOICES", {})
    comments = comments_of(module.default_config)
    keys = {}
    for name, (default, kind) in _typed_leaves(module.default_config()):
        is_tuple = kind is tuple
        if is_tuple:
            # An empty default does not tell what it may hold; its limits or choices may.
            kind = type([*(default or ()), *limits.get(name, ()), *choices.get(name, ()), None][0])
        kind = kind if kind in KINDS else object
        full = f"{group}.{name}" if group else name
        keys[full] = Key(default, kind, is_tuple, limits.get(name), choices.get(name), comments.get(name, ""))
    return keys


def _typed_leaves(config, prefix=""):
    """(dotted name, (value, type)); a placeholder's value is None and its type what it waits for."""
    for name in config:
        value = config[name]
        if isinstance(value, ConfigDict):
            yield from _typed_leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, (value, config.get_type(name))


def comments_of(declared: Callable) -> dict[str, str]:
    """What stands behind each default in the source of a default_config() or a NamedTuple: {dotted name: comment}."""
    try:
        source = inspect.getsource(declared)
    except (OSError, TypeError):  # defined where there is no file
        return {}
    return dict(re.findall(r"^ *(?:config\.)?\"?([\w.]+)\"? ?[=:].*?  # (.+)$", source, re.MULTILINE))


# What a value is, and may be.


def _parse_one(text, kind):
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _elements(value):
    if isinstance(value, tuple | list):
        return value
    raise TypeError


def _typed(value, kind):
    """The value as `kind`, which it must already mean: 1e6 is an int, 1 a float, True neither, '1' a text."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if kind is int and is_number and value == value // 1:  # false for inf and nan
        return int(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    if kind is object and isinstance(value, bool | int | float | str):
        return value
    raise TypeError


def _check_finite(name, value, elements, key):
    allowed = key.limits or ()  # a limit of inf allows inf
    for element in elements:
        if isinstance(element, float) and not math.isfinite(element) and element not in allowed:
            raise error(f"{name}={show(value)} must be {KINDS[float]}, such as {show(key.default)}")


def _check_range(name, value, elements, key):
    if not key.limits:
        return
    if any(isinstance(element, str | bool) for element in elements):  # possible where the default is a plain None
        raise error(f"{name}={show(value)} must be {KINDS[float]}, such as {show(key.default)}")
    near = tuple(_clamp(element, *key.limits) for element in elements)
    if near != elements:
        raise error(
            f"{name}={show(value)} is out of range; {'each' if key.is_tuple else 'it'} must lie "
            f"{interval(key.limits)}; the nearest is {show(near if key.is_tuple else near[0])}"
        )


def _clamp(number, low, high):
    """The nearest number within the limits, of the same type."""
    if low is not None and number < low:
        return type(number)(low)
    if high is not None and number > high:
        return type(number)(high)
    return number


def _check_choice(name, value, elements, key):
    is_writers = name == "config.writers"
    choices = find.names("host.writers") if is_writers else key.choices
    for element in elements if choices else ():
        is_private_part = is_writers and "." in element  # a dotted import path, as `find` takes it
        if element not in choices and not is_private_part:
            cure = find.nearest(str(element), [str(choice) for choice in choices])
            raise error(f"{name}={show(value)} is not a choice; {cure}")
