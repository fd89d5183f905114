"""What a command line asks for becomes members: combinations, draws and seeds, each with a config and a folder name."""

import math
from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host.sweeping import members
from jaxrl.types import ConfigError

EXPERIMENT = Path(__file__).parent / "probe_experiment.py"


def made(text="", seeds=None, samples=0, sweep_seed=0, **overrides):
    return members.make(configs.load(str(EXPERIMENT)), overrides, members.parse(text), seeds, samples, sweep_seed)


def names(*arguments, **options):
    return [member.name for member in made(*arguments, **options)]


def test_a_grid_is_every_combination_with_every_seed():
    crew = made("ppo.learning_rate=1e-4,3e-4 ppo.entropy_cost=0,1e-2", seeds=2)
    found = [(m.config.ppo.learning_rate, m.config.ppo.entropy_cost, m.config.seed) for m in crew]
    assert found == [(r, e, s) for r in (1e-4, 3e-4) for e in (0.0, 1e-2) for s in (0, 1)]
    assert crew[0].name == "ppo.learning_rate=0.0001,ppo.entropy_cost=0.0,seed=0"
    assert crew[0].changes == {"ppo.learning_rate": 1e-4, "ppo.entropy_cost": 0.0, "seed": 0}


def test_seeds_are_counted_from_the_configs_own_or_listed():
    assert [m.config.seed for m in made(seeds=3, seed=5)] == [5, 6, 7]
    assert [m.config.seed for m in made(seeds=[9, 2])] == [9, 2]
    assert names("seed=4,6") == ["seed=4", "seed=6"]
    assert members.parse_seeds("8") == 8
    assert members.parse_seeds("0,3,5") == [0, 3, 5]
    assert members.parse_seeds("3,") == [3]


def test_the_key_seeds_of_the_config_counts_too_and_each_member_is_a_run_of_one():
    crew = members.make(configs.load(str(EXPERIMENT)), {"seeds": 3}, {})
    assert [(m.config.seed, m.config.seeds) for m in crew] == [(0, 1), (1, 1), (2, 1)]


def test_a_value_with_commas_stands_in_brackets():
    crew = made("network.hidden_sizes=(64,64),(8,) network.activation=tanh,relu")
    assert [m.config.network.hidden_sizes for m in crew] == [(64, 64), (64, 64), (8,), (8,)]
    assert crew[0].name == "network.hidden_sizes=64x64,network.activation=tanh,seed=0"


def test_draws_lie_between_their_bounds_and_come_again():
    text = "ppo.learning_rate=loguniform(1e-5,1e-2) ppo.clip=uniform(0.1,0.3) ppo.update_epochs=uniform(1,8)"
    crew = made(text, samples=40, sweep_seed=3)
    rates = [m.config.ppo.learning_rate for m in crew]
    assert len(crew) == 40 and all(1e-5 <= rate <= 1e-2 for rate in rates)
    assert all(0.1 <= m.config.ppo.clip <= 0.3 for m in crew)
    assert {m.config.ppo.update_epochs for m in crew} >= {2, 3, 4, 5, 6, 7}
    # Log-uniform: as many below the geometric mean as above; uniform ones would be below it in 3 of 100.
    assert 10 <= sum(rate < math.sqrt(1e-5 * 1e-2) for rate in rates) <= 30
    assert [m.name for m in crew] == names(text, samples=40, sweep_seed=3)
    assert [m.name for m in crew] != names(text, samples=40, sweep_seed=4)
    assert len({m.name for m in crew}) == 40


def test_every_point_of_a_grid_gets_the_same_draws():
    crew = made("ppo.gamma=0.9,0.99 ppo.learning_rate=loguniform(1e-5,1e-2)", samples=3)
    rates = [m.config.ppo.learning_rate for m in crew]
    assert len(crew) == 6 and rates[:3] == rates[3:]


def test_a_name_says_the_value_whole_so_the_folder_is_the_config():
    (member,) = made("ppo.learning_rate=loguniform(1e-5,1e-2)", samples=1)
    assert member.name == f"ppo.learning_rate={member.config.ppo.learning_rate},seed=0"


def test_names_are_safe_whatever_the_values(tmp_path):
    crew = made("stop.predicate=a/b:c,a\\b:c ppo.learning_rate=1e-4")
    assert len({m.name.lower() for m in crew}) == 2
    for member in crew:
        (tmp_path / member.name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(m.name for m in crew)
    long = made(f"stop.predicate={'x' * 300}:f,{'x' * 300}:g")
    assert len({m.name for m in long}) == 2 and all(len(m.name) < 200 for m in long)


@pytest.mark.parametrize(
    "text, options, message",
    [
        (
            "ppo.learning_rat=1e-3",
            {},
            r"config.ppo.learning_rat is not a key; did you mean config.ppo.learning_rate=1e-3",
        ),
        ("ppo.learning_rate=2", {}, r"config.ppo.learning_rate=2.* is out of range"),
        ("ppo.learning_rate=fast", {}, r"config.ppo.learning_rate='fast' must be a finite number"),
        ("ppo.learning_rate", {}, r"'ppo.learning_rate' is no KEY=VALUE"),
        ("ppo.gamma=0.9 ppo.gamma=0.99", {}, r"names ppo.gamma twice"),
        ("ppo.gamma=0.9,0.90", {}, r"ppo.gamma=0.9,seed=0 is there twice; leave one"),
        ("ppo.gamma=0.9,0.99", {"seeds": [1, 1]}, r"seed=1 is there twice"),
        ("ppo.learning_rate=loguniform(0,1)", {"samples": 2}, r"must be loguniform\(LOW,HIGH\) with 0 < LOW < HIGH"),
        ("ppo.learning_rate=uniform(1,a)", {"samples": 2}, r"must be uniform\(LOW,HIGH\)"),
        ("ppo.learning_rate=logunifrm(1e-5,1)", {"samples": 2}, r"did you mean 'loguniform'"),
        ("ppo.learning_rate=loguniform(1e-5,1)", {}, r"random draws take both"),
        ("ppo.learning_rate=1e-3", {"samples": 2}, r"random draws take both: ppo.learning_rate=loguniform"),
        ("seed=1,2", {"seeds": 2}, r"names the seeds, and so does another flag"),
        ("ppo.gamma=0.9,0.99", {"seeds": 6000}, r"makes 12,000 members"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_cure(text, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made(text, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["none", "0", "-3", "1,b", ""])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="--seeds="):
        members.parse_seeds(text)
