"""Writes docs/rl_games_yamls.md, a row for each yaml that the package rl_games ships.

python docs/make_rl_games_yamls.py FOLDER        the folder rl_games/configs of an installed rl_games 1.6.5
"""

import sys
from pathlib import Path

from jaxrl.host import rl_games
from jaxrl.types import ConfigError

PAGE = Path(__file__).with_name("rl_games_yamls.md")
HEAD = """\
# Every yaml of rl_games 1.6.5

Made by `python docs/make_rl_games_yamls.py FOLDER` from the yamls in the package; do not edit.
`python -m jaxrl.convert` makes an experiment of each that is converted; what is left to do stands at the top of it.

"""


def page(folder: Path) -> str:
    """The whole page, of the yamls in a folder."""
    rows = []
    for file in sorted(folder.rglob("*.yaml")):
        try:
            conversion = rl_games.convert(file)
            told = f"converted | {len(conversion.lost)} to do" if conversion.lost else "converted | nothing to do"
        except ConfigError as error:
            told = "not | " + str(error).replace(f"{file} ", "it ").replace("|", "\\|")
        rows.append(f"| `{file.relative_to(folder).as_posix()}` | {told} |")
    converted = sum("| converted |" in row for row in rows)
    table = "\n".join(["| yaml | | |", "|---|---|---|", *rows])
    return f"{HEAD}{converted} of {len(rows)} are converted.\n\n{table}\n"


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1])), encoding="utf-8")
