"""The DM Control Suite: the library stepped by hand, what the clock and the task end, and what an end is worth."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import hosted
from jaxrl.algorithms.ppo import agent
from jaxrl.envs import dm_control as suite
from jaxrl.types import Box, ConfigError

GAMMA = 0.9


@pytest.fixture
def library():
    return suite._library()


def make(name, num_envs=2, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, num_envs)


def play(env, actions, seed=0):
    """The first timestep and those after it, stacked, [T, N, ...]."""
    state, first = env.reset(jax.random.key(seed))
    steps = []
    for action in actions:
        state, timestep = env.step(state, jnp.asarray(action))
        steps.append(timestep)
    return first, jax.tree.map(lambda *x: np.stack(x), *steps)


def by_hand(raw, actions):
    """obs, reward, last, final obs of the library's own environment, one row a step; obs[0] is the first."""
    see = lambda shown: np.concatenate([np.float32(part).reshape(-1) for part in shown.observation.values()])  # noqa: E731
    obs, rows = [see(raw.reset())], []
    for action in actions:
        shown = raw.step(np.float64(action))
        rows.append((np.float32(shown.reward), shown.last(), see(shown)))
        obs.append(see(raw.step(np.float64(action)) if shown.last() else shown))  # the step after an end is a reset
    return np.array(obs), *map(np.array, zip(*rows, strict=True))


@pytest.mark.dm_control
@pytest.mark.parametrize(("name", "seconds"), [("cartpole-swingup", 0.065), ("finger-turn_easy", 0.13)])
def test_it_is_the_library_stepped_by_hand_bit_for_bit_over_ends_of_episodes(library, name, seconds):
    domain, task = name.split("-")
    env = make(name, episode_length=7)
    # Sixteenths, so that stretching them from [-1, 1] to [-1, 1] does not round.
    actions = np.random.default_rng(0).integers(-16, 17, (20, 2, *env.spec.action.shape)) / np.float32(16)
    first, steps = play(env, actions)
    seeds = jax.random.randint(jax.random.key(0), (2,), 0, 2**31 - 1)
    for row, seed in enumerate(seeds):
        raw = library.load(domain, task, task_kwargs={"random": int(seed), "time_limit": seconds})
        obs, reward, last, final = by_hand(raw, actions[:, row])
        np.testing.assert_array_equal(first.obs[row], obs[0])
        np.testing.assert_array_equal(steps.obs[:, row], obs[1:])
        np.testing.assert_array_equal(steps.reward[:, row], reward)
        np.testing.assert_array_equal(steps.final_obs[:, row], final)
        np.testing.assert_array_equal(steps.truncated[:, row], last)
        np.testing.assert_array_equal(np.flatnonzero(last), [6, 13])
    assert steps.valid.all() and not steps.terminated.any()


@pytest.mark.dm_control
def test_an_action_is_held_until_the_clock_stops(library):
    env = make("cartpole-swingup", episode_length=7, action_repeat=3)
    assert env.spec.truncation_interval == 3
    actions = np.float32([[[0.5], [-0.25]], [[1.0], [0.5]], [[-0.5], [0.75]], [[0.25], [-1.0]]])
    _, steps = play(env, actions)
    seeds = jax.random.randint(jax.random.key(0), (2,), 0, 2**31 - 1)
    for row, seed in enumerate(seeds):
        raw = library.load("cartpole", "swingup", task_kwargs={"random": int(seed), "time_limit": 0.065})
        obs, reward, _, final = by_hand(raw, np.repeat(actions[:, row], [3, 3, 1, 3], axis=0))
        np.testing.assert_array_equal(steps.final_obs[:, row], final[[2, 5, 6, 9]])
        np.testing.assert_array_equal(steps.obs[:, row], obs[[3, 6, 7, 10]])
        np.testing.assert_allclose(steps.reward[:, row], np.add.reduceat(reward, [0, 3, 6, 7]), rtol=1e-6)
        np.testing.assert_array_equal(steps.truncated[:, row], [False, False, True, False])


@pytest.mark.dm_control
@pytest.mark.parametrize("name", ["cartpole-balance", "reacher-easy", "swimmer-swimmer6", "pendulum-swingup"])
def test_the_time_limit_is_the_suites_or_the_users(library, name):
    assert make(name, 1).spec.truncation_interval == library.load(*name.split("-"))._step_limit
    assert make(name, 1, episode_length=3).spec.truncation_interval == 3


@pytest.mark.dm_control
def test_what_the_task_ends_is_terminated_also_when_the_clock_stops(library, monkeypatch):
    monkeypatch.setattr(library.lqr.LQRLevel, "_TERMINAL_TOL", math.inf)  # it counts as at rest wherever it is
    for episode_length in (0, 1):
        _, steps = play(make("lqr-lqr_2_1", episode_length=episode_length), np.ones((3, 2, 1)))
        assert steps.terminated.all() and not steps.truncated.any()
        assert (steps.obs != steps.final_obs).any(axis=-1).all()


@pytest.mark.dm_control
def test_actions_are_stretched_to_the_bounds_where_there_are_any(library):
    from dm_env.specs import BoundedArray

    space, act = suite._action(BoundedArray((2,), float, [-1, 0], [1.1, 4]))
    assert space == Box((2,))
    np.testing.assert_allclose(act(np.array([[-1, -1], [0, 0.5], [3, 1]])), [[-1, 0], [0.05, 3], [1.1, 4]])
    actions = np.array([[-3.0, 7.0]])
    np.testing.assert_array_equal(suite._action(library.load("lqr", "lqr_6_2").action_spec())[1](actions), actions)


@pytest.mark.dm_control
def test_threads_change_nothing(library):
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 5, 6)).astype(np.float32)
    for one, other in zip(
        *(jax.tree.leaves(play(make("cheetah-run", 5, episode_length=4, num_threads=n), actions)) for n in (1, 2)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.dm_control
def test_a_clock_that_truncates_does_not_change_what_states_are_worth(library, monkeypatch):
    """Reward 1 for ever, whatever the clock says: V = 1 / (1 - γ), to 1 %."""
    monkeypatch.setattr(library.point_mass.PointMass, "get_reward", lambda self, physics: 1.0)
    config = jaxrl.configure(
        {},
        {
            "total_env_steps": 16 * 8 * 120,
            "env.suite": "dm_control",
            "env.name": "point_mass-easy",
            "env.episode_length": 5,
            "network.hidden_sizes": (32,),
            "network.activation": "tanh",
            "ppo.num_envs": 16,
            "ppo.unroll_length": 8,
            "ppo.num_minibatches": 2,
            "ppo.learning_rate": 1e-2,
            "ppo.learning_rate_schedule": "linear",
            "ppo.gamma": GAMMA,
        },
    )
    env = suite.make(config.env, 16)
    algorithm = agent.make(config, env.spec)
    init, run = hosted.make(env, algorithm)
    state, metrics = run(init(jax.random.key(0), algorithm.hyper), np.int32(120))
    obs = jnp.asarray(env.reset(jax.random.key(1))[1].obs)
    _, _, memo = algorithm.act(state.agent, (), obs, jnp.zeros(16, bool), jax.random.key(0))
    np.testing.assert_allclose(memo.value, 1 / (1 - GAMMA), rtol=0.01)
    assert metrics["rollout/episode_length"] == 5


def test_without_dm_control_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[dm-control\]'[^\n]*$"):
        make("cartpole-balance")


@pytest.mark.dm_control
def test_a_task_that_cannot_be_made_is_one_line_with_the_cause(library, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no\nscreen")

    monkeypatch.setattr(library, "load", fail)
    with pytest.raises(ConfigError, match=r"^config.env.name='cartpole-balance' cannot be made \(no screen\)[^\n]*$"):
        make("cartpole-balance")
