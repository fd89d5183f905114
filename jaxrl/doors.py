"""What the doors share: flags that are understood or refused in one line, and errors that say where to read on."""

import argparse
import re
import sys

from jaxrl import find
from jaxrl.types import ConfigError

# What an error begins with or speaks of, and the page of the documentation that has more; the first that fits.
PAGES = (
    (r"config\.env\b|\bsuite\b", "docs/environments.md"),
    (r"config\.network\.module\b", "docs/network.md#one-of-your-own"),
    (r"config\.algorithm\b", "docs/algorithm.md"),
    (r"config\.(?!json\b)([a-z_]+)\.", r"docs/reference.md#\1"),
    (r"config\.(?!json\b)[a-z_]+\b", "docs/reference.md#top-level"),
    (r"\.pth\b", "docs/rl_games.md#your-checkpoint"),
    (r"\.ya?ml\b|\bthe yaml\b", "docs/rl_games.md#your-yaml"),
    (r"cannot be exported|holds an export|export the policy again", "docs/deployment.md"),
)


class Parser(argparse.ArgumentParser):
    """Reads the flags of a door.

    Args:
        name: of the door, 'play' of python -m jaxrl.play.
        doc: what --help shows above the flags.
    """

    def __init__(self, name: str, doc: str):
        super().__init__(
            f"python -m jaxrl.{name}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def read(self, argv: list[str]) -> argparse.Namespace:
        """The flags; ConfigError with the nearest where one is not understood."""
        arguments, rest = self.parse_known_args(argv)
        if rest:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise ConfigError(f"{rest[0]!r} is not understood; {find.nearest(rest[0].partition('=')[0], flags)}.")
        return arguments

    def error(self, message: str) -> None:
        """What argparse calls where a value or an argument is wrong."""
        raise ConfigError(f"{message}; --help lists the flags.")


def refuse(error: Exception, status: int = 2) -> int:
    """Prints an error as one line on standard error, with the page that has more; the exit status."""
    page = page_of(str(error))
    print(f"error: {error}{f' ({page})' if page else ''}", file=sys.stderr)
    return status


def page_of(message: str) -> str:
    """The page, and perhaps the part of it, that tells more about what an error speaks of; '' if there is none."""
    for pattern, page in PAGES:
        found = re.search(pattern, message)
        if found:
            return found.expand(page)
    return ""
