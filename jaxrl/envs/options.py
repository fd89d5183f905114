"""Options that go through to a library, as texts of a config: 'name=value'."""

import ast
from collections.abc import Sequence
from typing import Any

from jaxrl.types import ConfigError


def parse(texts: Sequence[str], example: str) -> dict[str, Any]:
    """('task=Cartpole', 'seed=3', 'pinned=true') -> {'task': 'Cartpole', 'seed': 3, 'pinned': True}.

    Args:
        texts: config.env.options.
        example: an option, for the message.

    Raises:
        ConfigError: one of them is not of that form.
    """
    options = {}
    for text in texts:
        name, equals, value = str(text).partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"config.env.options={text!r} is no option; write name=value, such as {example}.")
        options[name] = _value(value)
    return options


def _value(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a text
        return text
