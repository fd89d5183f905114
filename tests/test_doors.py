"""What the doors share: flags, and errors that say where to read on."""

import pathlib
import re

import pytest

from jaxrl import doors
from jaxrl.host import keys
from jaxrl.types import ConfigError

ROOT = pathlib.Path(__file__).parents[1]


def anchors(page: pathlib.Path) -> set[str]:
    """The parts of a page, as GitHub and MkDocs name them: words in small letters, joined by hyphens."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("key", keys.table())
def test_every_key_has_a_page_with_a_part_that_is_there(key):
    page, _, part = doors.page_of(f"config.{key}=-1 is out of range").partition("#")
    assert (ROOT / page).is_file()
    assert not part or part in anchors(ROOT / page)


@pytest.mark.parametrize("page", [page for _, page in doors.PAGES if "\\" not in page])
def test_the_pages_are_there(page):
    name, _, part = page.partition("#")
    assert (ROOT / name).is_file() and (not part or part in anchors(ROOT / name))


@pytest.mark.parametrize(
    ("message", "page"),
    [
        ("config.ppo.gamma=2 must be in [0, 1]", "docs/reference.md#ppo"),
        ("config.seed=-1 is out of range", "docs/reference.md#top-level"),
        ("config.env.name='antt' is not in brax; did you mean 'ant'?", "docs/environments.md"),
        ("config.network.module='mine' has no make(config, spec)", "docs/network.md#one-of-your-own"),
        ("Ant.pth is damaged, or no .pth of torch.save", "docs/rl_games.md#your-checkpoint"),
        ("runs/ant/config.json cannot be read (JSONDecodeError)", ""),
        ("runs/antt does not exist; did you mean 'runs/ant'?", ""),
    ],
)
def test_an_error_is_one_line_that_names_its_page(message, page, capsys):
    assert doors.refuse(ConfigError(message)) == 2
    said = capsys.readouterr().err
    assert said == f"error: {message}{f' ({page})' if page else ''}\n"


def test_flags_are_read_or_refused_with_the_nearest():
    parser = doors.Parser("play", "Plays.")
    parser.add_argument("--episodes", type=int, default=128)
    assert parser.read(["--episodes=3"]).episodes == 3
    with pytest.raises(ConfigError, match=r"^'--episode=3' is not understood; did you mean '--episodes'\?\.$"):
        parser.read(["--episode=3"])
    with pytest.raises(ConfigError, match="invalid int value: 'x'; --help lists the flags"):
        parser.read(["--episodes=x"])
