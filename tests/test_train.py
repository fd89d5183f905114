"""The door `python -m jaxrl.train`: bad input is one line and exit status 2, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def train(*arguments, cwd):
    command = [sys.executable, "-m", "jaxrl.train", *arguments]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent))
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, env=environment)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {'env': {'suite': 'probe', 'name': 'arms'}}\n")
    return tmp_path


@pytest.mark.parametrize(
    "argument, key, cure",
    [
        ("--config.ppo.gama=0.9", "config.ppo.gama", "config.ppo.gamma"),
        ("--config.ppo.gamma=1.5", "config.ppo.gamma=1.5", "nearest is 1.0"),
        ("--config.ppo.gamma=high", "config.ppo.gamma", "number"),
        ("--config.ppo.num_minibatches=7", "config.ppo.num_minibatches=7", "nearest that does is 8"),
        ("--config.env.name=arm", "config.env.name='arm'", "did you mean 'arms'"),
        ("--config.env.suite=brx", "brx", "brax"),
        ("--config.network.activation=rlu", "config.network.activation", "relu"),
        ("--seed=3", "--seed", "--config.seed=3"),
    ],
)
def test_bad_input_is_one_line_with_the_cure_and_status_2(folder, argument, key, cure):
    done = train("--config=mine.py", "--workdir=run", argument, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert key in done.stderr and cure in done.stderr
    assert not (folder / "run").exists()


@pytest.mark.parametrize("config", ["--config=min.py", "--config=/", "--config=mine.py:fast"])
def test_an_experiment_that_cannot_be_read_is_one_line(folder, config):
    done = train(config, cwd=folder)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_brax_names_the_nearest_environment_and_backend(folder):
    for argument, cure in (("--config.env.name=antt", "'ant'"), ("--config.env.backend=sprin", "spring")):
        (folder / "ant.py").write_text("def get_config():\n    return {}\n")
        done = train("--config=ant.py", argument, cwd=folder)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and cure in done.stderr


def test_help_tells_how_and_lists_every_key(folder):
    for flag, text in (("--help", "--workdir"), ("--help_config", "ppo.learning_rate")):
        done = train(flag, cwd=folder)
        assert done.returncode == 0 and text in done.stdout and done.stderr == ""
