"""Playground's environments under our clock and restarts; checked against its own step and against MuJoCo in C."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import playground as suite
from jaxrl.types import Box, ConfigError

NUM_ENVS = 8
NUM_STEPS = 30
LENGTH = 12


def make(name, num_envs=NUM_ENVS, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, num_envs)


def play(env, action):
    """The first timestep, the states before each step and the timesteps after it, [T, N], under actions [T, N, A]."""

    @jax.jit
    def run(key):
        state, first = env.reset(key)

        def step(state, action):
            after, timestep = env.step(state, action)
            return after, (state.state[1], timestep)

        return first, jax.lax.scan(step, state, action)[1]

    return run(jax.random.key(0))


def no_network(*arguments):
    raise subprocess.CalledProcessError(128, ["git", "clone"])


@pytest.fixture(scope="module")
def cartpole():
    """Playground's own environment, actions beyond the bounds, and what ours made of them."""
    mjx_env = suite._library().mjx_env
    action = 1.5 * jax.random.uniform(jax.random.key(1), (NUM_STEPS, NUM_ENVS, 1), minval=-1.0, maxval=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mjx_env, "_clone_with_progress", no_network)
        first, (states, steps) = play(make("CartpoleBalance", episode_length=LENGTH), action)
    config = suite.default_config()
    return suite._load(config)[0], action, first, states, steps


def test_without_playground_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[playground\]'[^\n]*$"):
        make("CartpoleBalance")


@pytest.mark.playground
def test_every_step_is_playgrounds_own_also_where_an_episode_is_cut_off(cartpole):
    env, action, first, states, steps = cartpole
    theirs = jax.jit(jax.vmap(jax.vmap(env.step)))(states, jnp.clip(action, -1, 1))
    np.testing.assert_allclose(steps.final_obs, theirs.obs, atol=1e-5)
    np.testing.assert_allclose(steps.reward, theirs.reward, atol=1e-5)
    np.testing.assert_allclose(steps.metrics["reward/upright"], theirs.metrics["reward/upright"], atol=1e-5)
    np.testing.assert_array_equal(first.obs, states.obs[0])
    np.testing.assert_array_equal(steps.obs[:-1], states.obs[1:])


@pytest.mark.playground
def test_a_step_moves_the_cart_as_mujoco_in_c_does(cartpole):
    import mujoco

    env, action, _, states, steps = cartpole
    data = mujoco.MjData(env.mj_model)
    for t, i in ((0, 0), (7, 3), (NUM_STEPS - 1, 7)):
        mujoco.mj_resetData(env.mj_model, data)
        data.qpos, data.qvel = states.data.qpos[t, i], states.data.qvel[t, i]
        data.ctrl = np.clip(action[t, i], -1, 1)
        pole = data.qpos[1]  # its angle is shown as it was: bodies are placed first in a step, then all is moved
        shown = [np.cos(pole), np.sin(pole)]
        mujoco.mj_step(env.mj_model, data)
        np.testing.assert_allclose(steps.final_obs[t, i], [data.qpos[0], *shown, *data.qvel], rtol=1e-3, atol=1e-4)


@pytest.mark.playground
def test_the_clock_truncates_exactly_and_new_episodes_begin_elsewhere(cartpole):
    _, _, first, _, steps = cartpole
    expected = np.zeros(NUM_STEPS, bool)
    expected[[LENGTH - 1, 2 * LENGTH - 1]] = True
    np.testing.assert_array_equal(steps.truncated, np.repeat(expected[:, None], NUM_ENVS, axis=1))
    assert not steps.terminated.any() and steps.valid.all()
    begins = np.concatenate([first.obs, *steps.obs[expected]])
    assert len(np.unique(begins[:, 0])) == 3 * NUM_ENVS
    assert (np.abs(begins[:, 0]) <= 0.1).all()  # metres: where Playground puts the cart at a reset
    assert (
        (np.abs(begins - np.concatenate([first.obs, *steps.final_obs[expected]])) > 1e-6)[NUM_ENVS:].any(axis=1).all()
    )


@pytest.mark.playground
def test_without_a_length_playgrounds_own_holds():
    assert make("CartpoleBalance").spec == (
        make("CartpoleBalance", episode_length=1000, action_repeat=1).spec  # as its default_config() has it
    )
    assert make("CartpoleBalance", action_repeat=3).spec.truncation_interval == 334


@pytest.mark.playground
def test_an_unknown_implementation_is_one_line_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^config.env.impl='wrap' does not exist; did you mean 'warp'\?$"):
        make("CartpoleBalance", impl="wrap")


@pytest.mark.playground
def test_a_robot_that_cannot_be_downloaded_is_one_line_with_the_cure(monkeypatch, tmp_path, capfd):
    mjx_env = suite._library().mjx_env
    monkeypatch.setattr(mjx_env, "EXTERNAL_DEPS_PATH", tmp_path)
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "mujoco_menagerie")
    monkeypatch.setattr(mjx_env, "_clone_with_progress", no_network)
    with pytest.raises(ConfigError, match=r"^config.env.name='Go1Getup' needs the robots[^\n]*clone https[^\n]*$"):
        make("Go1Getup")
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def counter(monkeypatch):
    """An environment in Playground that counts its steps, shows parts, and ends by a clock of its own, or at 7."""
    dm_control_suite = suite._library().dm_control_suite  # which loads it without its warnings
    import mujoco_playground
    from ml_collections import config_dict

    class Counter(mujoco_playground.MjxEnv):
        action_size, mj_model, mjx_model, xml_path = 2, None, None, ""

        def show(self, count):
            return {"state": count[None], "privileged_state": -count[None], "camera": jnp.zeros((4, 4, 1))}

        def reset(self, rng):
            count = 0.0 * jax.random.uniform(rng)
            state = {"count": count, "total": jnp.zeros(2)}
            return mujoco_playground.State(None, self.show(count), count, count, {"double": count}, state)

        def step(self, state, action):
            info = state.info
            info["count"] += 1  # in place, as Playground's own do
            info["total"] += action
            state.metrics["double"] = 2 * info["count"]
            done = (info["count"] >= self._config.episode_length) | (info["count"] == 7)
            obs = self.show(info["count"])
            return state.replace(obs=obs, reward=info["count"], done=done.astype(float))

    options = dict(ctrl_dt=0.1, sim_dt=0.1, episode_length=5, action_repeat=1, impl="warp")
    monkeypatch.setitem(dm_control_suite._envs, "Counter", Counter)
    monkeypatch.setitem(dm_control_suite._cfgs, "Counter", lambda: config_dict.create(**options))
    return options


@pytest.mark.playground
def test_parts_of_observations_go_to_policy_and_critic_and_others_keep_their_names(counter):
    env = make("Counter")
    shapes = {name: part.shape for name, part in env.spec.obs.items()}
    assert shapes == {"policy": (1,), "critic": (1,), "camera": (4, 4, 1)}
    _, (_, steps) = play(env, jnp.zeros((3, NUM_ENVS, 2)))
    np.testing.assert_array_equal(steps.obs["policy"][:, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(steps.obs["critic"][:, 0, 0], [-1, -2, -3])


@pytest.mark.playground
@pytest.mark.parametrize("length", [0, 5])
def test_an_environment_that_ends_by_its_own_clock_is_truncated_by_ours(counter, length):
    _, (_, steps) = play(make("Counter", episode_length=length), jnp.zeros((10, NUM_ENVS, 2)))
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated[:, 0]), [4, 9])
    np.testing.assert_array_equal(steps.final_obs["policy"][:, 0, 0], [1, 2, 3, 4, 5] * 2)
    assert not steps.terminated.any()


@pytest.mark.playground
def test_an_end_of_the_task_is_a_termination(counter):
    _, (_, steps) = play(make("Counter", episode_length=9), jnp.zeros((7, NUM_ENVS, 2)))
    assert steps.terminated[6].all() and not steps.terminated[:6].any() and not steps.truncated.any()


@pytest.mark.playground
def test_an_action_is_held_clipped_and_its_rewards_summed(counter):
    counter["action_repeat"] = 2  # as Playground has it for an environment
    env = make("Counter", episode_length=9)
    assert env.spec.action == Box((2,)) and env.spec.truncation_interval == 5
    _, (states, steps) = play(env, jnp.full((5, NUM_ENVS, 2), jnp.array([3.0, -0.5])))
    np.testing.assert_array_equal(steps.reward[:, 0], [1 + 2, 3 + 4, 5 + 6, 7, 1 + 2])  # 7 ends the episode
    np.testing.assert_array_equal(steps.terminated[:, 0], [False, False, False, True, False])
    np.testing.assert_array_equal(steps.metrics["double"][:, 0], [4, 8, 12, 14, 4])
    np.testing.assert_array_equal(states.info["total"][3, 0], [6, -3])
