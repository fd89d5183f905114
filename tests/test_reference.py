"""The reference page says what the code reads, and every key it names is one."""

import importlib.util
from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host import keys
from jaxrl.types import ConfigError

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_what_the_defaults_say(reference):
    written = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert written == reference.page(), "run python docs/make_reference.py"


def test_names_of_other_trainers_stand_at_keys_that_exist(reference):
    table = keys.table("ppo", "brax")
    assert not (reference.RL_GAMES.keys() | reference.TORCHRL.keys()) - table.keys()


def test_every_key_says_what_it_does():
    silent = [name for name, key in keys.table("ppo", "brax").items() if not key.comment]
    assert not silent


def outside(key):
    """Values that a key must refuse."""
    low, high = key.limits or (None, None)
    beyond = [low - max(abs(low), 1)] if low is not None else []
    beyond += [high + max(abs(high), 1)] if high is not None else []
    return [*beyond, *(["nonesuch"] if key.choices or key.kind in (bool, int, float) else [])]


BAD = [(name, value) for name, key in keys.table("ppo", "brax").items() for value in outside(key)]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value}" for name, value in BAD])
def test_a_bad_value_of_any_key_is_one_line_that_names_it(name, value):
    with pytest.raises(ConfigError, match=f"config.{name}=") as caught:
        configs.resolve({}, {name: str(value)})
    assert "\n" not in str(caught.value)
