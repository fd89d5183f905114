"""What notebooks call, and the README's promises about it."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl


def test_importing_jaxrl_does_not_load_jax():
    code = "import sys, jaxrl; assert 'jax' not in sys.modules, 'jax'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_make_env_takes_suite_and_name():
    env = jaxrl.make_env("probe/clock", 4, episode_length=3)
    state, timestep = env.reset(jax.random.key(0))
    for _ in range(3):
        state, timestep = env.step(state, jnp.zeros((4, 1)))
    assert timestep.truncated.all() and env.spec.truncation_interval == 3


@pytest.mark.parametrize("name, cure", [("prob/clock", "probe"), ("probe/clok", "clock"), ("brax/annt", "ant")])
def test_make_env_suggests_the_nearest_name(name, cure):
    with pytest.raises(jaxrl.types.ConfigError, match=f"did you mean '?{cure}|{cure}"):
        jaxrl.make_env(name, 4)


def test_floors_are_public():
    advantage = jaxrl.functional.returns.gae(
        jnp.ones((2, 1)), jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.zeros((2, 1), bool), jnp.zeros((2, 1), bool),
        gamma=0.5, lambda_=1.0,
    )  # fmt: skip
    np.testing.assert_allclose(advantage[:, 0], [1.5, 1.0])


@pytest.mark.parametrize("name", ["train", "check_env", "export", "play"])
def test_a_function_stays_one_when_the_door_of_its_name_is_imported(name):
    door = importlib.import_module(f"jaxrl.{name}")
    assert callable(door.main)
    assert callable(getattr(jaxrl, name)) and getattr(jaxrl, name) is not door


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = jaxrl.trian


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    short = {"total_env_steps": 512, "env.name": "target", "eval.episodes": 4, "writers": ("jsonl",)}
    experiment = Path(__file__).parent / "host" / "probe_experiment.py"
    return jaxrl.train(experiment, tmp_path_factory.mktemp("runs") / "target", short)


def test_a_run_and_its_history_show_what_matters_in_a_line(run):
    score = run.history[-1]["eval/episode_return"]
    assert re.fullmatch(r"Run\('.*target', env_steps=512, eval/episode_return=\S+ at 512\)", repr(run))
    assert f"={score:.6g} at" in repr(run)
    shown = repr(run.history)
    assert shown.startswith(f"History({len(run.history)} rows to 512 env steps: env_steps, wall_seconds, ")
    assert "eval/episode_return" in shown and repr(type(run.history)()) == "History([])"
    stopped = run._replace(reason="signal 15", workdir=run.workdir / "nothing")
    assert repr(stopped).endswith("nothing', env_steps=512, reason='signal 15')")


def test_what_asks_for_a_run_takes_its_folder_or_what_train_returned(run):
    of_run, of_folder = jaxrl.play(run, episodes=8, seed=3), jaxrl.play(run.workdir, episodes=8, seed=3)
    np.testing.assert_array_equal(of_run.returns, of_folder.returns)
    assert of_run.returns.shape == (8, 1) and jaxrl.load_policy(run).spec == jaxrl.load_policy(run.workdir).spec
    mean, std = of_run.returns.mean(), of_run.returns.std()
    assert repr(of_run).startswith(f"Played(8 episodes after 512 env steps: return {mean:.6g} ± {std:.3g}, IQM ")
    assert repr(of_run).endswith("length 4 (4 to 4))") == bool((of_run.lengths == 4).all())
    with pytest.raises(jaxrl.types.ConfigError):
        jaxrl.view(run)  # a probe has nothing to be drawn
