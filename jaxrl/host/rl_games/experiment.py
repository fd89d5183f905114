"""Writes an experiment file: the Python of a get_config() that sets some keys."""

import textwrap
from collections.abc import Mapping
from typing import Any

WIDTH = 120  # of a line, as ruff formats this repository


def text(config: Mapping[str, Any], title: str, command: str, remarks: list[str]) -> str:
    """The file.

    Args:
        config: what it sets, nested one deep.
        title: its first line, without the stop.
        command: that trains it.
        remarks: what is to be known or done, one item of a list each.
    """
    lines = ['"""' + _wrapped(f"{title}.", "", WIDTH - 3).lstrip(), "", f"    {_plain(command)}"]
    if remarks:
        lines += ["", "What is not taken over, or to be done:", ""]
        lines += [_wrapped(remark, "* ", WIDTH) for remark in remarks]
    lines += ['"""', "", "from ml_collections import ConfigDict", "", "", "def get_config() -> ConfigDict:"]
    lines += ["    config = ConfigDict()"]
    lines += [_setting(name, value) for name, value in config.items()]
    return "\n".join([*lines, "    return config", ""])


def _plain(remark: str) -> str:
    """Text that cannot end a docstring, or escape in it, whatever a yaml says."""
    printable = "".join(letter if letter.isprintable() else " " for letter in remark)
    return printable.replace("\\", "/").replace('"', "'")


def _wrapped(remark, bullet, width):
    return textwrap.fill(
        " ".join(_plain(remark).split()),
        width,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=True,
        break_on_hyphens=False,
    )


def _setting(name, value):
    """`    config.name = value`, a dict over several lines where one is too short."""
    line = f"    config.{name} = {_literal(value)}"
    if len(line) <= WIDTH or not isinstance(value, Mapping):
        return line
    items = "".join(f"        {_literal(key)}: {_literal(item)},\n" for key, item in value.items())
    return f"    config.{name} = {{\n{items}    }}"


def _literal(value):
    """A value as ruff writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        quoted = repr(value)
        return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in value else quoted
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:_}"
    return repr(value).replace("e+", "e") if isinstance(value, float) else repr(value)
