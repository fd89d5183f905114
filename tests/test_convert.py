"""python -m jaxrl.convert: what it writes, prints and refuses, and that what it writes trains."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import convert
from jaxrl.host import program, rl_games, sharding

YAML = textwrap.dedent("""
    params:
      seed: 3
      algo: {name: a2c_continuous}
      model: {name: continuous_a2c_logstd}
      network:
        name: actor_critic
        separate: False
        space:
          continuous:
            mu_activation: None
            sigma_activation: None
            mu_init: {name: default}
            sigma_init: {name: const_initializer, val: 0}
            fixed_sigma: True
        mlp: {units: [8], activation: elu, initializer: {name: default}}
      config:
        name: Pendulum
        env_name: brax
        normalize_input: True
        normalize_value: True
        normalize_advantage: True
        reward_shaper: {scale_value: 1.0}
        gamma: 0.99
        tau: 0.95
        learning_rate: 3e-4
        lr_schedule: adaptive
        kl_threshold: 0.008
        max_epochs: 100
        grad_norm: 1.0
        entropy_coef: 0.0
        truncate_grads: True
        e_clip: 0.2
        horizon_length: 4
        num_actors: 8
        minibatch_size: 16
        mini_epochs: 2
        critic_coef: 2
        clip_value: False
        bounds_loss_coef: 0.0001
        env_config: {env_name: inverted_pendulum}
""")


@pytest.fixture
def yaml(tmp_path):
    file = tmp_path / "pendulum.yaml"
    file.write_text(YAML)
    return file


@pytest.fixture
def experiment(yaml, tmp_path):
    out = tmp_path / "experiments" / "pendulum.py"
    assert convert.main([str(yaml), "--out", str(out)]) == 0
    return out


def test_what_it_writes_is_an_experiment(experiment, yaml):
    config = jaxrl.configure(experiment)
    assert (config.seed, config.env.name, config.ppo.value_cost) == (3, "inverted_pendulum", 2.0)
    assert config == jaxrl.configure(rl_games.convert(yaml).config)
    text = ast.get_docstring(ast.parse(experiment.read_text()))
    assert text.startswith("Pendulum, converted from rl_games' pendulum.yaml.")
    assert f"python -m jaxrl.train --config={experiment}" in text
    assert "* Brax's physics" in text


def test_what_it_writes_is_formatted_as_this_repository_is(yaml, tmp_path, monkeypatch):
    settings = Path("pyproject.toml").resolve()
    monkeypatch.chdir(tmp_path)  # so that the path in the docstring is short
    assert convert.main([str(yaml), "--out=pendulum.py"]) == 0
    for verb in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *verb, f"--config={settings}", "pendulum.py"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_it_writes_trains(experiment):
    mesh = sharding.mesh(jax.devices()[:1])
    source = program.make(jaxrl.configure(experiment, {"eval.episodes": 0}), mesh)
    programs = program.compile(source, mesh, seed=0)
    state, metrics = programs.epoch(programs.init(), jax.device_put(np.int32(2), sharding.replicated(mesh)))
    assert int(state.iterations) == 2
    assert np.isfinite(metrics["loss/policy"]) and np.isfinite(metrics["loss/value"])


def test_report_says_what_became_of_each_key(yaml, tmp_path, capsys):
    yaml.write_text(
        YAML.replace("max_epochs: 100", "max_epochs: 100\n    gama: 0.9\n    seq_len: 4\n    weight_decay: 0.1")
    )
    assert convert.main([str(yaml), f"--out={tmp_path / 'out.py'}"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "Not taken over, or to be done:",
        "  weight_decay=0.1: there is no weight decay",
        "Read by nothing in rl_games either:",
        "  seq_len=4: seq_length is the one that is read",
        "Unknown to rl_games, which ignores them:",
        "  gama=0.9: did you mean gamma?",
        "  taken as numbers, though YAML 1.1 reads them as texts: learning_rate=3e-4 (write 3.0e-4 for 3e-4)",
        f"Written: {tmp_path / 'out.py'}. To train it: python -m jaxrl.train --config={tmp_path / 'out.py'}",
    ):
        assert line in printed.splitlines()


def test_a_text_of_the_yaml_stays_a_text(yaml, tmp_path):
    hostile = '"\\"\\"\\"\\nraise SystemExit(9)\\n\\\\"'
    yaml.write_text(YAML.replace("name: Pendulum", f"name: {hostile}").replace("max_epochs: 100", f"{hostile}: 1"))
    out = tmp_path / "out.py"
    assert convert.main([str(yaml), f"--out={out}"]) == 0
    assert [type(node).__name__ for node in ast.parse(out.read_text()).body] == ["Expr", "ImportFrom", "FunctionDef"]
    assert jaxrl.configure(out).env.name == "inverted_pendulum"


def test_a_folder_is_a_table(yaml, tmp_path, capsys):
    inner = tmp_path / "theirs" / "sac"
    inner.mkdir(parents=True)
    yaml.rename(tmp_path / "theirs" / "pendulum.yaml")
    (inner / "ant.yaml").write_text(YAML.replace("a2c_continuous", "sac"))
    assert convert.main([str(tmp_path / "theirs"), f"--out={tmp_path / 'ours'}"]) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first == "pendulum.yaml  converted  2 to do"
    assert second.startswith("sac/ant.yaml   not        params.algo.name='sac' is not PPO")
    assert total.startswith("1 of 2 converted")
    assert jaxrl.configure(tmp_path / "ours" / "pendulum.py").seed == 3
    assert not (tmp_path / "ours" / "sac").exists()


def test_it_writes_over_nothing_unless_told(yaml, experiment, capsys):
    experiment.write_text("mine")
    assert convert.main([str(yaml), f"--out={experiment}"]) == 2
    assert experiment.read_text() == "mine"
    assert capsys.readouterr().err == f"error: --out={experiment} is there already; --force writes over it.\n"
    assert convert.main([str(yaml), f"--out={experiment}", "--force"]) == 0
    assert jaxrl.configure(experiment).seed == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the yaml is missing; write python -m jaxrl.convert FILE.yaml --out EXPERIMENT.py"),
        (["{yaml}"], "--out=EXPERIMENT.py is missing"),
        (["nonesuch.yaml", "--out=a.py"], "nonesuch.yaml is not there; give a yaml of rl_games"),
        (["{yaml}", "--out={folder}/a"], "is no Python file; write --out={folder}/a/pendulum.py"),
        (["{yaml}", "--out={yaml}/a.py"], "--out={yaml}/a.py cannot be written"),
        (["{folder}/empty", "--out={folder}/ours"], "{folder}/empty has no yaml; give a folder that has."),
    ],
)
def test_bad_input_is_one_line(yaml, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    names = {"yaml": yaml, "folder": tmp_path}
    assert convert.main([argument.format(**names) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert message.format(**names) in said.err


def test_help_shows_how_it_is_called(capsys):
    with pytest.raises(SystemExit) as caught:
        convert.main(["--help"])
    assert caught.value.code == 0
    assert "python -m jaxrl.convert ppo_ant.yaml --out my_ant.py" in capsys.readouterr().out
