"""Configs: what is merged, what is refused, and in which words."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_dict

from jaxrl.host import config as configs
from jaxrl.host import keys
from jaxrl.types import ConfigError

real_modules = keys._modules


def env_defaults():
    config = ConfigDict()
    config.suite = "brax"
    config.name = "ant"
    config.backend = "spring"  # the physics
    return config


def network_defaults():
    return ConfigDict({"hidden_sizes": (64, 64), "value_sizes": (), "bounds": (-1.0, 1.0)})


def ppo_defaults():
    config = ConfigDict()
    config.num_envs = 8  # in parallel
    config.learning_rate = 3e-4
    config.gamma = 0.99  # discount per step
    config.time_limit = math.inf
    config.normalize_obs = True
    return config


def guard_defaults():
    return ConfigDict(
        {
            "stop": {"target": config_dict.placeholder(float), "predicate": None},  # None until they are set
            "guard": {"interval": 1},
        }
    )


FAKES = {
    "env": SimpleNamespace(default_config=env_defaults, CHOICES={"backend": ("spring", "generalized", "mjx")}),
    "network": SimpleNamespace(
        default_config=network_defaults,
        LIMITS={"hidden_sizes": (1, 4096), "value_sizes": (1, 4096), "bounds": (-20.0, 20.0)},
    ),
    "ppo": SimpleNamespace(
        default_config=ppo_defaults,
        LIMITS={"gamma": (0, 1), "num_envs": (1, None), "learning_rate": (0.0, 1.0), "time_limit": (0.0, math.inf)},
    ),
    "sac": SimpleNamespace(default_config=lambda: ConfigDict({"gamma": 0.98}), LIMITS={"gamma": (0, 1)}),
    "eval": SimpleNamespace(default_config=lambda: ConfigDict({"episodes": 128, "interval": 0})),
    "checkpoint": SimpleNamespace(default_config=lambda: ConfigDict({"interval": 0})),
}


@pytest.fixture(autouse=True)
def fake_groups(monkeypatch):
    """Small groups that hold a key of every sort, so that a new default of jaxrl changes no test."""

    def modules(algorithm, suite):
        groups = [(group, FAKES[group]) for group in ("env", "network", algorithm, "eval", "checkpoint")]
        return [("", configs), *groups, ("", SimpleNamespace(default_config=guard_defaults))]

    monkeypatch.setattr(keys, "_modules", modules)


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """An empty folder experiments/ in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    return tmp_path / "experiments"


def resolved(*flags, **partial):
    """The config of a command line: resolved('ppo.gamma=0.9')."""
    return configs.resolve(partial, [tuple(flag.split("=", 1)) for flag in flags])


def refusal(function, *args, **kwargs):
    """The message of the ConfigError, which must be one printable line."""
    with pytest.raises(ConfigError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable() and message
    return message


# Merging.


def test_defaults_experiment_and_overrides_win_in_this_order():
    config = resolved("ppo.gamma=0.7", ppo={"gamma": 0.8, "num_envs": 16})
    assert (config.ppo.gamma, config.ppo.num_envs, config.ppo.learning_rate) == (0.7, 16, 3e-4)


def test_last_override_wins():
    assert resolved("seed=1", "seed=2").seed == 2


def test_resolved_config_is_locked():
    config = resolved()
    with pytest.raises(AttributeError):
        config.ppo.gama = 0.9


def test_resolving_a_resolved_config_changes_nothing():
    config = resolved("ppo.gamma=0.7")
    assert configs.resolve(config) == config


def test_algorithm_decides_the_group_whoever_sets_it():
    assert resolved("algorithm=sac").sac.gamma == 0.98
    assert resolved(algorithm="sac").sac.gamma == 0.98
    assert "sac" not in resolved("algorithm=ppo", algorithm="sac")


@pytest.mark.parametrize(
    "flag, value",
    [
        ("seed=7", 7),
        ("total_env_steps=1e6", 1_000_000),
        ("total_env_steps=1_000_000", 1_000_000),
        ("ppo.learning_rate=1", 1.0),
        ("ppo.learning_rate=1e-3", 1e-3),
        ("ppo.time_limit=inf", math.inf),
        ("ppo.normalize_obs=false", False),
        ("ppo.normalize_obs=True", True),
        ("env.name=1", "1"),
        ("env.name=", ""),
        ("network.hidden_sizes=(32, 16)", (32, 16)),
        ("network.hidden_sizes=[32,16]", (32, 16)),
        ("network.hidden_sizes=32", (32,)),
        ("network.hidden_sizes=32,", (32,)),
        ("network.hidden_sizes=()", ()),
        ("network.value_sizes=1e2", (100,)),
        ("network.bounds=-2,3", (-2.0, 3.0)),
        ("writers=jsonl,csv", ("jsonl", "csv")),
        ("writers=('jsonl', 'csv')", ("jsonl", "csv")),
        ("writers=", ()),
        ("writers=my_package.my_writer", ("my_package.my_writer",)),
        ("stop.target=9100", 9100.0),
        ("stop.target=none", None),
        ("stop.predicate=my_package.my_predicate", "my_package.my_predicate"),
    ],
)
def test_override_is_read_by_the_type_of_the_default(flag, value):
    config = resolved(flag)
    for word in flag.split("=")[0].split("."):
        config = config[word]
    assert config == value and type(config) is type(value)
    if isinstance(value, tuple):
        assert [type(element) for element in config] == [type(element) for element in value]


def test_experiment_may_write_a_whole_float_for_an_int_and_a_list_for_a_tuple():
    config = resolved(total_env_steps=1e6, network={"hidden_sizes": [32, 16]}, ppo={"learning_rate": 1})
    assert repr(config.total_env_steps) == "1000000"
    assert config.network.hidden_sizes == (32, 16)
    assert repr(config.ppo.learning_rate) == "1.0"


# Refusals: one line that names the key, the value and the cure.

BAD_OVERRIDES = [
    ("ppo.gama=0.9", "config.ppo.gama is not a key; did you mean config.ppo.gamma=0.9?"),
    ("gamma=0.9", "config.gamma is not a key; did you mean config.ppo.gamma=0.9?"),
    ("nun_envs=4", "config.nun_envs is not a key; did you mean config.ppo.num_envs=4?"),
    ("ppo.lr=0.1", "config.ppo.lr is not a key; did you mean config.ppo.learning_rate=0.1?"),
    ("total_timesteps=5", "config.total_timesteps is not a key; did you mean config.total_env_steps=5?"),
    ("ppo.gamma.x=1", "config.ppo.gamma.x is not a key; did you mean config.ppo.gamma=1?"),
    ("xyzzy=1", "config.xyzzy=1 is not a key; --help_config lists all keys"),
    ("=1", "config.=1 is not a key; --help_config lists all keys"),
    ("ppo=1", "config.ppo='1' sets a group; set a key of it, such as config.ppo.gamma"),
    ("seed=three", "config.seed='three' must be a whole number, such as 0"),
    ("seed=1.5", "config.seed=1.5 must be a whole number, such as 0"),
    ("seed=nan", "config.seed=nan must be a whole number, such as 0"),
    ("seed=inf", "config.seed=inf must be a whole number, such as 0"),
    ("seed=true", "config.seed='true' must be a whole number, such as 0"),
    ("seed=none", "config.seed='none' must be a whole number, such as 0"),
    ("seed=", "config.seed='' must be a whole number, such as 0"),
    ("seed=1\n2", r"config.seed='1\n2' must be a whole number, such as 0"),
    ("seed=4294967296", "config.seed=4294967296 is out of range; it must lie in [0, 4294967295]; "),
    ("total_env_steps=1e16", "in [1, 1e+15]; the nearest is 1000000000000000"),
    ("ppo.gamma=1.5", "config.ppo.gamma=1.5 is out of range; it must lie in [0, 1]; the nearest is 1.0"),
    ("ppo.num_envs=0", "config.ppo.num_envs=0 is out of range; it must lie in [1, inf); the nearest is 1"),
    ("ppo.gamma=high", "config.ppo.gamma='high' must be a finite number, such as 0.99"),
    ("ppo.gamma=nan", "config.ppo.gamma=nan must be a finite number, such as 0.99"),
    ("ppo.gamma=inf", "config.ppo.gamma=inf must be a finite number, such as 0.99"),
    ("ppo.time_limit=nan", "config.ppo.time_limit=nan must be a finite number, such as inf"),
    ("ppo.normalize_obs=yes", "config.ppo.normalize_obs='yes' must be true or false, such as True"),
    ("ppo.normalize_obs=1", "config.ppo.normalize_obs='1' must be true or false, such as True"),
    ("env.backend=sprng", "config.env.backend='sprng' is not a choice; did you mean 'spring'?"),
    ("env.backend=xyzzy", "config.env.backend='xyzzy' is not a choice; choose one of spring, generalized, mjx"),
    ("network.hidden_sizes=64,0", "=(64, 0) is out of range; each must lie in [1, 4096]; the nearest is (64, 1)"),
    ("network.hidden_sizes=64,,64", "=(64, '', 64) must be a tuple, each element a whole number, such as (64, 64)"),
    ("network.hidden_sizes=a", "config.network.hidden_sizes=('a',) must be a tuple, each element a whole number"),
    ("network.value_sizes=2.5", "config.network.value_sizes=(2.5,) must be a tuple, each element a whole number"),
    ("network.bounds=nan", "config.network.bounds=(nan,) must be a finite number, such as (-1.0, 1.0)"),
    ("writers=jsonl,cvs", "config.writers=('jsonl', 'cvs') is not a choice; did you mean 'csv'?"),
    ("stop.target=high", "config.stop.target='high' must be a finite number, such as None"),
]


@pytest.mark.parametrize("flag, words", BAD_OVERRIDES)
def test_bad_override_is_refused_in_one_line_with_the_cure(flag, words):
    assert words in refusal(resolved, flag)


@pytest.mark.parametrize(
    "partial, words",
    [
        ({"ppo": {"gama": 0.9}}, "config.ppo.gama is not a key; did you mean config.ppo.gamma=0.9?"),
        ({"ppo": {"gamma": 1.5}}, "config.ppo.gamma=1.5 is out of range; it must lie in [0, 1]; the nearest is 1.0"),
        ({"ppo": {"gamma": "0.9"}}, "config.ppo.gamma='0.9' must be a finite number, such as 0.99"),
        ({"ppo": {"gamma": None}}, "config.ppo.gamma=None must be a finite number, such as 0.99"),
        ({"ppo": {"gamma": 10**400}}, "must be a finite number, such as 0.99"),
        ({"ppo": {"gamma": {"low": 0.9}}}, "config.ppo.gamma.low is not a key; did you mean config.ppo.gamma=0.9?"),
        ({"ppo": {"gamma": {}}}, "config.ppo.gamma={} must be a finite number, such as 0.99"),
        ({"ppo": 3}, "config.ppo=3 sets a group; set a key of it, such as config.ppo.gamma"),
        ({"xyzzy": {}}, "config.xyzzy={} is not a key; --help_config lists all keys"),
        ({"seed": True}, "config.seed=True must be a whole number, such as 0"),
        ({"seed": [1]}, "config.seed=[1] must be a whole number, such as 0"),
        ({"env": {"name": 3}}, "config.env.name=3 must be a text, such as 'ant'"),
        ({"writers": "jsonl"}, "config.writers='jsonl' must be a tuple, each element a text, such as ('console',"),
        ({"network": {"hidden_sizes": 64}}, "config.network.hidden_sizes=64 must be a tuple, each element a whole"),
        ({"ppo": {"normalize_obs": 1}}, "config.ppo.normalize_obs=1 must be true or false, such as True"),
        ({"stop": {"predicate": print}}, "must be a number or a text, such as None"),
        ({"algorithm": 3}, "config.algorithm=3 must be a text, such as 'ppo'"),
        ({"env": {"suite": None}}, "config.env.suite=None must be a text, such as 'brax'"),
        ({"algorithm": "sac", "ppo": {"gamma": 0.9}}, "is not a key; did you mean config.sac.gamma=0.9?"),
    ],
)
def test_bad_experiment_is_refused_by_the_same_checks(partial, words):
    assert words in refusal(configs.resolve, partial)
    assert words in refusal(configs.resolve, ConfigDict(partial))


def test_empty_group_of_an_experiment_sets_nothing():
    assert resolved(ppo={}) == resolved()


def test_very_long_value_does_not_drown_its_message():
    assert len(refusal(resolved, "seed=" + "x" * 10_000)) < 300
    assert len(refusal(resolved, "x" * 10_000 + "=1")) < 300


@pytest.mark.parametrize(
    "flag, words",
    [
        ("algorithm=pqo", "config.algorithm='pqo' cannot be: algorithms has no 'pqo'; did you mean 'ppo'?"),
        ("env.suite=brx", "config.env.suite='brx' cannot be: envs has no 'brx'; did you mean 'brax'?"),
        ("env.suite=no_such.suite", "config.env.suite='no_such.suite' cannot be: "),
        ("env.suite=wrappers", "config.env.suite='wrappers' cannot be: envs has no 'wrappers'; choose one of brax, "),
        ("env.suite=jaxrl.types", "config.env.suite='jaxrl.types' names a module without default_config(); "),
        ("env.suite=..", "config.env.suite='..' cannot be imported (TypeError: "),
        ("env.suite=broken.suite", "config.env.suite='broken.suite' cannot be imported (ZeroDivisionError: "),
    ],
)
def test_part_that_does_not_exist_is_refused(flag, words, tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_modules", real_modules)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "suite.py").write_text("1 / 0")
    assert words in refusal(resolved, flag)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_as_key_and_value_is_resolved_or_refused_in_one_line(name, value):
    try:
        configs.resolve({}, [(name, value)])
    except ConfigError as mistake:
        assert str(mistake).isprintable()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
names = st.sampled_from(["seed", "ppo", "gamma", "writers", "network", "stop", "target"]) | st.text(max_size=8)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, scalars | st.dictionaries(names, scalars, max_size=3), max_size=3))
def test_any_nested_values_are_resolved_or_refused_in_one_line(partial):
    try:
        config = configs.resolve(partial)
    except ConfigError as mistake:
        assert str(mistake).isprintable()
    else:
        assert configs.from_json(configs.to_json(config)) == config


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=12) | st.sampled_from(["--config=x", "--workdir", "--config.seed", "--"]), max_size=4))
def test_any_command_line_is_read_or_refused_in_one_line(argv):
    try:
        assert isinstance(configs.parse_command_line(argv), configs.Arguments)
    except ConfigError as mistake:
        assert str(mistake).isprintable()


# JSON.


def test_config_survives_the_way_through_json():
    config = resolved("network.hidden_sizes=32", "ppo.time_limit=inf", "stop.target=3", "writers=jsonl")
    again = configs.from_json(configs.to_json(config))
    assert again == config and again.to_dict() == config.to_dict()
    assert again.network.hidden_sizes == (32,)


def test_keys_newer_than_the_json_get_their_defaults():
    assert configs.from_json('{"seed": 3}') == resolved("seed=3")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a.b": 1}', "[" * 100_000, '{"seed": ' + "1" * 5000 + "}"])
def test_unreadable_json_is_refused(text):
    assert "give the config.json of a run" in refusal(configs.from_json, text)


# Resuming.


def test_difference_lists_top_level_keys_first():
    old, new = resolved(), resolved("ppo.gamma=0.5", "seed=1", "env.name=hopper")
    assert configs.difference(old, new) == [("seed", 0, 1), ("env.name", "ant", "hopper"), ("ppo.gamma", 0.99, 0.5)]
    assert configs.difference(old, old) == []


@pytest.mark.parametrize(
    "flag", ["total_env_steps=5", "writers=csv", "eval.episodes=3", "checkpoint.interval=3", "stop.target=3"]
)
def test_run_may_go_on_with_another_goal_or_other_records(flag):
    configs.check_resume(resolved(), resolved(flag))


def test_run_may_not_go_on_as_another_run():
    message = refusal(configs.check_resume, resolved(), resolved("ppo.gamma=0.5", "eval.episodes=3"))
    assert message == (
        "config.ppo.gamma=0.5 cannot continue a run that began with 0.99; give the same config, or a new --workdir"
    )


def test_run_may_not_go_on_with_another_algorithm():
    assert "config.algorithm='sac'" in refusal(configs.check_resume, resolved(), resolved("algorithm=sac"))


# Experiment files.

EXPERIMENT = """
from ml_collections import ConfigDict

def get_config(arg='slow'):
    config = ConfigDict({'ppo': {'gamma': 0.9 if arg == 'slow' else 0.5}})
    config.seed = 3
    return config
"""


@pytest.mark.parametrize("name", ["experiments/ant.py", "experiments/ant", "ant.py", "ant"])
def test_experiment_is_found_by_its_path_or_its_name(name, experiments):
    (experiments / "ant.py").write_text(EXPERIMENT)
    assert configs.load(name).to_dict() == {"seed": 3, "ppo": {"gamma": 0.9}}
    assert configs.load(f"{name}:fast").ppo.gamma == 0.5
    assert [path.resolve() for path in configs.code(f"{name}:fast")] == [(experiments / "ant.py").resolve()]
    assert sorted(path.name for path in experiments.iterdir()) == ["ant.py"]  # no bytecode beside it


def test_experiment_may_give_a_plain_dict_and_refer_to_other_keys(experiments):
    (experiments / "plain.py").write_text("def get_config(): return {'ppo': {'gamma': 0.5}}")
    (experiments / "lazy.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    config = ConfigDict({'seed': 3})\n"
        "    config.eval = ConfigDict({'episodes': config.get_oneway_ref('seed') * 2})\n"
        "    return config\n"
    )
    assert configs.load("plain").ppo.gamma == 0.5
    assert configs.load("lazy").to_dict() == {"seed": 3, "eval": {"episodes": 6}}


@pytest.mark.parametrize(
    "source, words",
    [
        ("x = 1", "has no get_config; define get_config()"),
        ("get_config = 3", "has no get_config; define get_config()"),
        ("def get_config(:", "fails at line 1 (SyntaxError: "),
        (
            "def get_config():\n    return gama",
            "fails at line 2 (NameError: name 'gama' is not defined); correct the file",
        ),
        ("import no_such_module", "fails at line 1 (ModuleNotFoundError: "),
        ("import sys\nsys.exit(3)", "fails at line 2 (SystemExit: 3)"),
        ("def get_config():\n    raise ValueError('a\\nb')", "fails at line 2 (ValueError: a b)"),
        ("def get_config(): return 3", "returns 3; let get_config() return a ConfigDict"),
        ("def get_config(): return None", "returns None; let get_config() return a ConfigDict"),
        ("def get_config(): return {'ppo.gamma': 0.9}", "ValueError: ConfigDict does not accept dots"),
        (
            "def get_config(arg): return {}",
            "does not fit the arguments of get_config; write --config=experiments/bad.py:ARG",
        ),
        ("\0", "fails at line 1 (SyntaxError: "),
    ],
)
def test_bad_experiment_file_is_refused_in_one_line(source, words, experiments):
    (experiments / "bad.py").write_text(source)
    message = refusal(configs.load, "bad")
    assert message.startswith("--config=experiments/bad.py") and words in message


def test_argument_that_get_config_does_not_take_is_refused(experiments):
    (experiments / "ant.py").write_text("def get_config(): return {}")
    assert "leave out :ARG" in refusal(configs.load, "ant:fast")


def test_missing_file_is_refused_with_the_nearest(experiments):
    (experiments / "ant.py").write_text(EXPERIMENT)
    (experiments / "hopper.py").write_text(EXPERIMENT)
    for name in ("antt", "ant.yp", "experiments/antt", "experiments/antt.py", "antt.py:fast"):
        assert "is not a file; did you mean --config=experiments/ant.py?" in refusal(configs.load, name)
    assert refusal(configs.load, "xyzzy").endswith("write --config=NAME with one of ant, hopper")
    for name in ("", "/", ".", "a\0b", "x" * 10_000, "experiments"):
        assert "is not a file; " in refusal(configs.load, name)


def test_missing_file_without_any_experiment_around_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(configs.load, "ant").endswith("write --config=PATH.py, an experiment file")


def test_json_of_a_run_is_loaded_as_plain_data(tmp_path):
    marker = tmp_path / "executed"
    attack = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"env": {"name": attack}, "network": {"hidden_sizes": [3]}}))
    config = configs.resolve(configs.load(str(path)))
    assert configs.code(str(path)) == ()
    assert config.env.name == attack and config.network.hidden_sizes == (3,)
    assert not marker.exists()


def test_python_in_a_json_file_is_not_run(tmp_path):
    (tmp_path / "config.json").write_text("raise SystemExit(7)")
    assert "config.json cannot be read (" in refusal(configs.load, str(tmp_path / "config.json"))


def test_json_takes_no_argument(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "a JSON file takes no argument" in refusal(configs.load, f"{tmp_path / 'config.json'}:fast")


# The command line.


def test_command_line_is_read():
    argv = "--config=ant.py:fast --config.ppo.gamma=0.9 --workdir=here --config.env.name=a=b".split()
    expected = ("ant.py:fast", Path("here"), [("ppo.gamma", "0.9"), ("env.name", "a=b")], {})
    assert configs.parse_command_line(argv) == expected


def test_value_may_be_a_word_of_its_own():
    argv = "--config ant --config.ppo.gamma -0.9 --workdir here".split()
    assert configs.parse_command_line(argv) == ("ant", Path("here"), [("ppo.gamma", "-0.9")], {})


@pytest.mark.parametrize(
    "config, workdir",
    [
        ("ant", "runs/ant"),
        ("experiments/ant.py", "runs/ant"),
        ("experiments/ant.py:fast 1/2", "runs/ant-fast-1-2"),
        ("runs/old/config.json", "runs/old"),
        ("mine/ant.json", "runs/ant"),
    ],
)
def test_workdir_is_named_after_the_experiment(config, workdir):
    assert configs.parse_command_line([f"--config={config}"]).workdir == Path(workdir)


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--seed 3", "--seed is not a flag; write --config.seed=3"),
        ("--seed=3", "--seed=3 is not a flag; write --config.seed=3"),
        ("seed=3", "seed=3 is not a flag; write --config.seed=3"),
        ("ppo.lr=3e-4", "ppo.lr=3e-4 is not a flag; write --config.ppo.learning_rate=3e-4"),
        ("config.ppo.gamma=0.9", "config.ppo.gamma=0.9 is not a flag; write --config.ppo.gamma=0.9"),
        ("--ppo.gamma=0.9", "--ppo.gamma=0.9 is not a flag; write --config.ppo.gamma=0.9"),
        ("--confg.ppo.gamma=0.9", "--confg.ppo.gamma=0.9 is not a flag; write --config.ppo.gamma=0.9"),
        ("--gama=0.9", "--gama=0.9 is not a flag; write --config.ppo.gamma=0.9"),
        ("--num_envs=64", "--num_envs=64 is not a flag; write --config.ppo.num_envs=64"),
        ("--num-envs 64", "--num-envs is not a flag; write --config.ppo.num_envs=64"),
        ("--total_timesteps 5", "--total_timesteps is not a flag; write --config.total_env_steps=5"),
        ("-n 5", "-n is not a flag; write --config.total_env_steps=5"),
        ("--lr", "--lr is not a flag; write --config.ppo.learning_rate=VALUE"),
        ("--env ant", "--env is not a flag; write --config.env.name=ant"),
        ("--confg=ant", "--confg=ant is not a flag; did you mean --config=ant?"),
        ("--work_dir=here", "--work_dir=here is not a flag; did you mean --workdir=here?"),
        ("--hlep", "--hlep is not a flag; did you mean --help?"),
        ("--resume", "--resume is not a flag; the same --config and --workdir go on from the last checkpoint"),
        ("--device=cpu", "--device=cpu is not a flag; set the environment variable JAX_PLATFORMS to cpu, cuda or tpu"),
        ("--xyzzy=1", "--xyzzy=1 is not a flag; --help lists the flags, --help_config the keys"),
        ("experiments/ant.py", "experiments/ant.py has no flag before it; write --config=experiments/ant.py"),
        ("--config", "--config needs a value; write --config=VALUE"),
        ("--config=", "--config needs a value; write --config=VALUE"),
        ("--workdir --config=ant", "--workdir needs a value; write --workdir=DIR"),
        ("--config=ant --config.ppo.gamma", "--config.ppo.gamma needs a value; write --config.ppo.gamma=VALUE"),
        ("", "--config is missing; write --config=NAME with one of ant"),
    ],
)
def test_flag_that_does_not_exist_is_refused_with_the_spelling_to_use(argv, message, experiments):
    (experiments / "ant.py").write_text(EXPERIMENT)
    assert refusal(configs.parse_command_line, argv.split()) == message


@pytest.mark.parametrize("argv", ["--help", "-h", "--seed 3 --help"])
def test_help_shows_how_to_write_the_command(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        configs.parse_command_line(argv.split())
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--config=PATH[:ARG]" in text and "--help_config" in text and "--workdir=DIR" in text


def test_help_config_lists_every_key_with_its_default_comment_and_range(capsys):
    with pytest.raises(SystemExit) as stop:
        configs.parse_command_line(["--help_config"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(keys.table())
    shown = {line.split("=")[0]: " ".join(line.split()) for line in lines}
    assert shown["--config.ppo.gamma"] == "--config.ppo.gamma=0.99 discount per step; in [0, 1]"
    assert shown["--config.env.backend"] == "--config.env.backend=spring the physics; spring | generalized | mjx"
    assert shown["--config.network.hidden_sizes"] == "--config.network.hidden_sizes=64,64 in [1, 4096]"
    assert shown["--config.stop.target"] == "--config.stop.target=none"


def test_help_config_shows_the_keys_of_the_algorithm_asked_for(capsys):
    with pytest.raises(SystemExit):
        configs.parse_command_line(["--config.algorithm=sac", "--help_config"])
    assert "--config.sac.gamma=0.98" in capsys.readouterr().out


def test_defaults_as_help_config_prints_them_resolve_to_the_defaults():
    flags = [line.split("  ")[0].removeprefix("--config.").rstrip() for line in configs.describe().splitlines()]
    assert resolved(*flags) == resolved()


# The real groups.


def test_defaults_of_jaxrl_pass_their_own_checks(monkeypatch):
    monkeypatch.setattr(keys, "_modules", real_modules)
    config = configs.resolve({})
    flags = [line.split("  ")[0].removeprefix("--config.").rstrip() for line in configs.describe().splitlines()]
    assert resolved(*flags) == config
    assert configs.resolve(config) == config
    assert configs.from_json(configs.to_json(config)) == config
    assert {"env", "network", "ppo", "eval", "checkpoint", "stop", "guard"} <= set(config)


def test_every_limit_and_choice_of_jaxrl_belongs_to_a_key():
    for group, module in real_modules("ppo", "brax"):
        declared = {f"{group}.{name}".lstrip(".") for name, _ in keys.leaves(module.default_config())}
        for name in [*getattr(module, "LIMITS", {}), *getattr(module, "CHOICES", {})]:
            assert f"{group}.{name}".lstrip(".") in declared


def test_names_of_other_trainers_lead_to_keys_of_jaxrl(monkeypatch):
    monkeypatch.setattr(keys, "_modules", real_modules)
    table = keys.table()
    for alias, name in keys.ALIASES.items():
        assert (keys.same_meaning(table, alias) or "").endswith(name)


def test_private_algorithm_has_a_group_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_modules", real_modules)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "reinforce.py").write_text(
        "from ml_collections import ConfigDict\ndef default_config(): return ConfigDict({'gamma': 0.5})\n"
    )
    assert resolved("algorithm=my_package.reinforce").reinforce.gamma == 0.5
