"""gymnax's environments under our clock and restarts; checked against gymnasium's own and against the equations."""

import sys
import urllib.error

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import gymnax as suite
from jaxrl.types import Box, ConfigError, Discrete

NUM_ENVS = 8


def make(name, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, NUM_ENVS)


def play(env, policy, num_steps):
    """The first timestep and those after it, [T, N], with actions that follow from observations."""

    @jax.jit
    def run(key):
        state, first = env.reset(key)

        def step(carry, _):
            state, obs = carry
            state, timestep = env.step(state, policy(obs))
            return (state, timestep.obs), timestep

        return first, jax.lax.scan(step, (state, first.obs), None, num_steps)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def always_right(obs):
    return jnp.ones(NUM_ENVS, jnp.int32)


def balance(obs):
    """A policy that holds CartPole's pole up and its cart near the middle."""
    return jnp.asarray(obs @ jnp.array([0.1, 0.3, 1.0, 0.7]) > 0, jnp.int32)


def test_without_gymnax_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[gymnax\]'[^\n]*$"):
        make("CartPole-v1")


@pytest.mark.gymnax
def test_a_gymnax_that_mixes_the_clock_into_the_end_of_the_task_is_refused(monkeypatch):
    from gymnax.environments.environment import Environment

    monkeypatch.delattr(Environment, "is_truncated")
    with pytest.raises(ConfigError, match=r"^[^\n]*gymnax 1.0 or newer[^\n]*--upgrade[^\n]*$"):
        make("CartPole-v1")


@pytest.mark.gymnax
def test_an_environment_that_cannot_download_its_data_is_one_line(monkeypatch):
    import gymnax

    def fail(name):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(gymnax, "make", fail)
    with pytest.raises(ConfigError, match=r"^config.env.name='MNISTBandit-bsuite' cannot be made \([^\n]*$"):
        make("MNISTBandit-bsuite")


@pytest.mark.gymnax
def test_cartpole_is_truncated_at_exactly_500_steps_and_not_terminated():
    _, steps = play(make("CartPole-v1"), balance, 1000)
    expected = np.zeros(1000, bool)
    expected[[499, 999]] = True
    np.testing.assert_array_equal(steps.truncated, np.repeat(expected[:, None], NUM_ENVS, axis=1))
    assert not steps.terminated.any() and (steps.reward == 1).all()


@pytest.mark.gymnax
def test_a_fallen_pole_terminates_and_a_short_clock_truncates_before_it():
    first, fallen = play(make("CartPole-v1"), always_right, 40)
    assert fallen.terminated.any(axis=0).all() and not fallen.truncated.any()
    shortest = (np.argmax(fallen.terminated, axis=0) + 1).min()
    same_first, short = play(make("CartPole-v1", episode_length=int(shortest) - 1), always_right, int(shortest) - 1)
    np.testing.assert_array_equal(first.obs, same_first.obs)
    assert short.truncated[-1].all() and not short.truncated[:-1].any() and not short.terminated.any()
    np.testing.assert_array_equal(short.final_obs, fallen.final_obs[: shortest - 1])


@pytest.mark.gymnax
def test_cartpole_falls_as_gymnasiums_does():
    from gymnasium.envs.classic_control import CartPoleEnv

    first, steps = play(make("CartPole-v1"), always_right, 20)
    oracle = CartPoleEnv()
    for i in range(NUM_ENVS):
        oracle.reset()
        oracle.state = first.obs[i].astype(np.float64)
        for t in range(20):
            obs, reward, terminated, _, _ = oracle.step(1)
            np.testing.assert_allclose(steps.final_obs[t, i], obs, rtol=1e-4, atol=1e-5)
            assert (steps.reward[t, i], steps.terminated[t, i]) == (reward, terminated)
            if terminated:
                break
        assert terminated


@pytest.mark.gymnax
@pytest.mark.parametrize("action, torque", [(-1.0, -2.0), (0.25, 0.5), (1.0, 2.0), (3.0, 2.0)])
def test_pendulum_swings_by_its_equation_under_the_torque_that_the_action_means(action, torque):
    env = make("Pendulum-v1")
    assert env.spec.action == Box((1,))
    first, steps = play(env, lambda obs: jnp.full((NUM_ENVS, 1), action), 1)
    cos, sin, velocity = first.obs.astype(np.float64).T
    velocity = velocity + 0.05 * (15.0 * sin + 3.0 * torque)  # dt (3g/2l sin θ + 3/ml² u), g = 10
    angle = np.arctan2(sin, cos) + 0.05 * velocity
    np.testing.assert_allclose(steps.obs[0], np.stack([np.cos(angle), np.sin(angle), velocity], 1), atol=1e-5)


@pytest.mark.gymnax
def test_what_shows_the_time_shows_our_clock():
    _, steps = play(make("DiscountingChain-bsuite", episode_length=10), always_right, 10)
    np.testing.assert_allclose(steps.final_obs[:, 0, 1], np.arange(1, 11) / 10, rtol=1e-6)
    assert steps.truncated[9].all() and not steps.truncated[:9].any()


@pytest.mark.gymnax
def test_a_numbered_state_is_shown_as_one_of_n():
    env = make("FrozenLake-misc")
    assert (env.spec.obs.shape, env.spec.action) == ((16,), Discrete(4))
    first, _ = play(env, always_right, 1)
    np.testing.assert_array_equal(first.obs, np.eye(16, dtype=np.float32)[np.zeros(NUM_ENVS, int)])


@pytest.mark.gymnax
def test_minatar_shows_floats_of_0_and_1():
    env = make("Breakout-MinAtar")
    assert env.spec.obs == jax.ShapeDtypeStruct((10, 10, 4), jnp.float32)
    first, steps = play(env, lambda obs: jnp.zeros(NUM_ENVS, jnp.int32), 3)
    np.testing.assert_array_equal(np.unique(steps.obs), [0, 1])
    np.testing.assert_array_equal(first.obs[..., 0].sum(axis=(1, 2)), np.ones(NUM_ENVS))  # one paddle


def echo(bounds):
    """An environment of gymnax whose observation is the action that it got and a number that it drew."""
    from gymnax.environments import environment, spaces

    class Echo(environment.Environment):
        default_params = environment.EnvParams(max_steps_in_episode=4)

        def reset_env(self, key, params):
            return jnp.zeros(3), environment.EnvState(time=0)

        def step_env(self, key, state, action, params):
            obs = jnp.append(action, jax.random.uniform(key))
            return obs, environment.EnvState(time=state.time + 1), 0, jnp.array(False), {}

        def action_space(self, params):
            return spaces.Box(*bounds, (2,))

        def observation_space(self, params):
            return spaces.Box(-9, 9, (3,))

    return Echo(), Echo.default_params


@pytest.mark.gymnax
def test_actions_are_stretched_to_bounds_that_differ_and_every_step_draws_anew(monkeypatch):
    monkeypatch.setattr(suite, "_load", lambda name: echo((np.array([0.0, -3.0]), np.array([1.0, 9.0]))))
    _, steps = play(make("echo"), lambda obs: jnp.tile(jnp.array([-1.0, 0.0]), (NUM_ENVS, 1)), 12)
    np.testing.assert_array_equal(steps.final_obs[..., :2], np.tile(np.float32([0, 3]), (12, NUM_ENVS, 1)))
    assert len(np.unique(steps.final_obs[..., 2])) == 12 * NUM_ENVS
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated[:, 0]), [3, 7, 11])


@pytest.mark.gymnax
def test_actions_without_bounds_are_refused(monkeypatch):
    monkeypatch.setattr(suite, "_load", lambda name: echo((-np.inf, np.inf)))
    with pytest.raises(ConfigError, match=r"^config.env.name='echo' has actions without bounds[^\n]*$"):
        make("echo")


@pytest.mark.gymnax
def test_every_environment_keeps_the_types_of_its_state_and_observation():
    from jaxrl.envs.spaces import example

    names = set(suite.names()) - {"MNISTBandit-bsuite"}  # which would download MNIST
    assert len(names) >= 25
    for name in names:
        env = make(name)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, NUM_ENVS))
        assert again == state and timestep == first, name
        assert first.obs.shape == (NUM_ENVS, *env.spec.obs.shape) and first.obs.dtype == jnp.float32
