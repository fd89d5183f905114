"""What a yaml of rl_games says, flat and repaired: interpolations resolved, texts that mean numbers made numbers.

Read with yaml.safe_load, which builds no objects. The facts on what rl_games does with a key are of its version 1.6.5.
"""

import contextlib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jaxrl.host.keys import clip, error, show

SECTIONS = ("network.", "model.")  # of params, which keys name without it; other keys are those of params.config
PREFIXES = ("params.", "train.params.", "agent.params.")  # the latter where Hydra writes down a whole run's config
MOST_LEAVES, DEEPEST, MOST_REFERENCES = 10_000, 50, 100
# YAML 1.1 wants a point in a number with an exponent: 3e-4 is a text to it, 3.0e-4 is a number.
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
INNERMOST = re.compile(r"\$\{([^${}]*)\}")
OUTSIDE = "\0"  # in place of what another file says


class Source(NamedTuple):
    """The keys of one yaml."""

    name: str  # of the file
    leaves: dict[str, Any]  # by their path under params, 'config.gamma'; lists are leaves, an empty block is None
    remarks: tuple[str, ...] = ()  # on how it was read

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key as rules name it, 'gamma' or 'network.mlp.units'; the default where there is none."""
        value = self.leaves.get(path(key))
        return default if value is None else value

    def has(self, key: str) -> bool:
        """Whether there is such a key, or a block of that name, be it an empty one."""
        name = path(key)
        return any(leaf == name or leaf.startswith(f"{name}.") for leaf in self.leaves)

    def below(self, key: str) -> dict[str, Any]:
        """What stands in a block, by the path in it."""
        prefix = f"{path(key)}."
        return {leaf.removeprefix(prefix): value for leaf, value in self.leaves.items() if leaf.startswith(prefix)}

    def number(self, key: str, default: float | None = None) -> float | None:
        """The value as a number.

        Raises:
            ConfigError: it is none.
        """
        value = self.get(key, default)
        if value is None:
            return None
        try:
            number = float(value) if not isinstance(value, bool | list) else None
        except (TypeError, ValueError):
            number = None
        if number is None or number != number:
            raise error(f"{named(path(key))}={show(value)} is no number; correct it in {self.name}")
        return int(number) if number == number // 1 and isinstance(value, int) else number

    def whole(self, key: str, default: int | None = None) -> int | None:
        """The value as a whole number.

        Raises:
            ConfigError: it is none.
        """
        number = self.number(key, default)
        if number is not None and number != number // 1:
            raise error(f"{named(path(key))}={show(number)} is no whole number; correct it in {self.name}")
        return None if number is None else int(number)

    def flag(self, key: str, default: bool = False) -> bool:
        """The value as true or false.

        Raises:
            ConfigError: it is neither.
        """
        value = self.get(key, default)
        meaning = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
        if meaning is None:
            raise error(f"{named(path(key))}={show(value)} is neither true nor false; correct it in {self.name}")
        return meaning

    def wholes(self, key: str) -> tuple[int, ...]:
        """The value as a list of whole numbers, () where there is none.

        Raises:
            ConfigError: it is something else.
        """
        value = self.get(key, [])
        if not isinstance(value, list) or not all(type(element) is int for element in value):
            raise error(f"{named(path(key))}={show(value)} is no list of whole numbers; correct it in {self.name}")
        return tuple(value)


def path(key: str) -> str:
    """A key as rules name it → its path under params: gamma → config.gamma, params.seed → seed."""
    if key.startswith("params."):
        return key.removeprefix("params.")
    return key if key.startswith(SECTIONS) else f"config.{key}"


def named(leaf: str) -> str:
    """The opposite, as the report names a key: config.gamma → gamma, seed → params.seed."""
    if leaf.startswith(SECTIONS):
        return leaf
    return leaf.removeprefix("config.") if leaf.startswith("config.") else f"params.{leaf}"


def read(file: Path) -> Source:
    """The keys of a yaml for rl_games, IsaacGymEnvs or Isaac Lab.

    Args:
        file: of IsaacGymEnvs also one with `defaults`; those lie beside it.

    Raises:
        ConfigError: there is no such file, it is no YAML, or it has no params.algo.
    """
    leaves = _flat(_load(file, ()), file)
    prefix = next((each for each in PREFIXES if f"{each}algo.name" in leaves), PREFIXES[0])
    leaves, remarks = _interpolate(leaves, prefix)
    params = {leaf.removeprefix(prefix): value for leaf, value in leaves.items()}
    if not params.get("algo.name"):
        raise error(f"{file} has no params.algo.name, so it is no training config of rl_games; give one that has")
    params, texts = _numbers(params)
    if texts:
        remarks.append(
            f"taken as numbers, though YAML 1.1 reads them as texts: {', '.join(texts)} (write 3.0e-4 for 3e-4)"
        )
    return Source(file.name, params, tuple(remarks))


def _load(file, children):
    """The document, on top of those that its `defaults` name."""
    if file in children:
        raise error(f"{file} names itself in its defaults; correct that")
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as mistake:
        raise error(f"{file} cannot be read ({mistake}); give a yaml of rl_games") from None
    except (yaml.YAMLError, RecursionError, ValueError) as mistake:  # ValueError: a date that is none
        raise error(f"{file} is no YAML ({' '.join(str(mistake).split())}); correct it") from None
    if not isinstance(document, Mapping):
        raise error(f"{file} holds {show(document)}, no keys; give a yaml of rl_games")
    defaults = document.get("defaults") or []
    for name in defaults if isinstance(defaults, list) else []:
        if isinstance(name, str) and name != "_self_":
            document = _merged(_load(file.with_name(f"{name}.yaml"), (*children, file)), document)
    return document


def _merged(base, top):
    """Nested mappings, those of `top` where both have one."""
    merged = dict(base)
    for name, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _leaves(node, prefix="", depth=0):
    """(dotted path, value) of nested mappings, 'None' as None."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value and depth < DEEPEST:
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", None if value in ("None", "none", {}) else value


def _flat(document, file):
    """{dotted path: value}; no more than a config can have, whatever aliases make of it."""
    leaves = dict(itertools.islice(_leaves(document), MOST_LEAVES + 1))
    if len(leaves) > MOST_LEAVES:
        raise error(f"{file} has more than {MOST_LEAVES} keys; give a yaml of rl_games")
    return leaves


def _interpolate(leaves, prefix):
    """OmegaConf's ${...} resolved: (leaves below a prefix, without those that another file decides; remarks)."""
    given, defaults, outside = {}, [], []
    for leaf, value in leaves.items():
        if not leaf.startswith(prefix):
            continue
        is_reference = isinstance(value, str) and "${" in value
        result = _resolve(leaf, value, leaves) if is_reference else value
        name = named(leaf.removeprefix(prefix))
        if is_reference and result is None:
            outside.append(f"{name}={clip(value)}")
            continue
        given[leaf] = result
        if is_reference and "resolve_default" in value:
            defaults.append(f"{name}={result}")
    remarks = []
    if defaults:
        remarks.append(f"taken as their defaults, though a command line may decide: {', '.join(defaults)}")
    if outside:
        remarks.append(f"decided outside of this file, and left out: {', '.join(outside)}")
    return given, remarks


def _resolve(leaf, text, leaves):
    """The value that a text with ${...} means; None if another file decides."""
    for _ in range(MOST_REFERENCES):  # an end to references that go in a circle
        match = INNERMOST.search(text)
        if not match:
            break
        text = text[: match.start()] + _meaning(leaf, match[1], leaves) + text[match.end() :]
    if OUTSIDE in text or "${" in text:
        return None
    with contextlib.suppress(yaml.YAMLError):
        value = yaml.safe_load(text)
        return value if isinstance(value, bool | int | float) else text
    return text


def _meaning(leaf, inside, leaves):
    """What stands for ${inside}, as a text."""
    if inside.startswith("resolve_default:"):
        default, _, wish = inside.removeprefix("resolve_default:").partition(",")
        return wish if wish and wish != OUTSIDE else default
    if ":" in inside:  # `if`, `eq`, and resolvers of the user's
        return OUTSIDE
    name = inside.lstrip(".")
    up = len(inside) - len(name)
    holder = leaf.split(".")
    if up > len(holder):
        return OUTSIDE
    target = ".".join([*holder[: len(holder) - up], name]) if up else name
    value = leaves.get(target, leaves.get(target.removeprefix("train."), OUTSIDE))
    return OUTSIDE if isinstance(value, list) else str(value)


def _numbers(leaves):
    """Texts such as 3e-4 as numbers, and which they were."""
    texts = [f"{named(leaf)}={value}" for leaf, value in leaves.items() if _is_exponent(value)]
    return {leaf: float(value) if _is_exponent(value) else value for leaf, value in leaves.items()}, texts


def _is_exponent(value):
    return isinstance(value, str) and EXPONENT.fullmatch(value) is not None
