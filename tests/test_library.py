"""What notebooks call, and the README's promises about it."""

import importlib
import subprocess
import sys

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


@pytest.mark.parametrize("name", ["train", "check_env"])
def test_a_function_stays_one_when_the_door_of_its_name_is_imported(name):
    door = importlib.import_module(f"jaxrl.{name}")
    assert callable(door.main)
    assert callable(getattr(jaxrl, name)) and getattr(jaxrl, name) is not door


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = jaxrl.trian
