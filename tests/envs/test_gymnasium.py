"""Gymnasium's environments: what is learned from, in both of its ways to begin anew, and what an end is worth."""

import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import hosted
from jaxrl.algorithms.ppo import agent
from jaxrl.envs import gymnasium as suite
from jaxrl.envs import gymnasium_workers
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete

GAMMA = 0.9


def test_without_gymnasium_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[gymnasium\]'[^\n]*$"):
        make("CartPole-v1")


def make(name, num_envs=2, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, num_envs)


@pytest.fixture
def counter():
    """An environment that shows how many steps its episode has, and that only the time limit ends."""
    gymnasium = pytest.importorskip("gymnasium")

    class Counter(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

        def __init__(self, modulus=1000, render_mode=None):
            self.modulus, self.render_mode = modulus, render_mode
            self.observation_space = gymnasium.spaces.Box(-1e3, 1e3, (1,), np.float32)
            self.action_space = gymnasium.spaces.Box(np.float32([0, -4]), np.float32([10, 4]))

        def see(self):
            return np.full(1, self.count % self.modulus, np.float32)

        def render(self):
            return np.full((6, 4, 3), 10 * self.count, np.uint8)

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.count = 0
            return self.see(), {}

        def step(self, action):
            self.count += 1
            return self.see(), 1.0, False, False, {}

    gymnasium.register("Counter-v0", entry_point=Counter, max_episode_steps=5)
    gymnasium.register("Parity-v0", entry_point=Counter, max_episode_steps=5, kwargs={"modulus": 2})
    yield gymnasium
    del gymnasium.registry["Counter-v0"], gymnasium.registry["Parity-v0"]


def play(env, num_steps):
    """The first timestep and those after it, stacked, under actions of 0."""
    state, first = env.reset(jax.random.key(0))
    steps = []
    for _ in range(num_steps):
        state, timestep = env.step(state, jnp.zeros((env.spec.num_envs, 2)))
        steps.append(timestep)
    return first, jax.tree.map(lambda *x: np.stack(x)[:, 0], *steps)


@pytest.mark.gymnasium
def test_an_episode_begins_anew_in_the_step_that_ends_one(counter):
    _, steps = play(make("Counter-v0"), 11)
    np.testing.assert_array_equal(steps.obs[:, 0], [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(steps.final_obs[:, 0], [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1])
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated), [4, 9])
    assert not steps.terminated.any() and steps.valid.all()


@pytest.mark.gymnasium
def test_what_is_rendered_is_shown_as_a_square_image(counter):
    env = make("Counter-v0", pixels=2)
    assert env.spec.obs == jax.ShapeDtypeStruct((2, 2, 3), jnp.uint8)
    first, steps = play(env, 6)
    assert first.obs.shape == (2, 2, 2, 3) and not first.obs.any()
    np.testing.assert_array_equal(steps.obs[:, 0, 0, 0], [10, 20, 30, 40, 0, 10])
    np.testing.assert_array_equal(steps.final_obs, np.broadcast_to(steps.final_obs[:, :1, :1, :1], (6, 2, 2, 3)))
    assert steps.final_obs[4, 0, 0, 0] == 50


@pytest.mark.gymnasium
def test_an_episode_begins_anew_in_the_step_after_and_nobody_learns_from_that(counter):
    _, steps = play(make("Counter-v0", autoreset="next_step"), 11)
    np.testing.assert_array_equal(steps.obs[:, 0], [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(steps.final_obs, steps.obs)
    np.testing.assert_array_equal(np.flatnonzero(~steps.valid), [5])
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated), [4, 10])


@pytest.mark.gymnasium
def test_the_time_limit_is_the_environments_or_the_users(counter):
    assert make("Counter-v0").spec.truncation_interval == 5
    env = make("Counter-v0", episode_length=3)
    assert env.spec.truncation_interval == 3
    np.testing.assert_array_equal(np.flatnonzero(play(env, 7)[1].truncated), [2, 5])


@pytest.mark.gymnasium
def test_actions_are_stretched_to_the_bounds(counter):
    assert make("Counter-v0").spec.action == Box((2,))
    stretch = suite.action_space("x", counter.spaces.Box(np.float32([0, -4]), np.float32([10, 4])))[1]
    np.testing.assert_array_equal(stretch([[-1, -1], [0, 0.5], [3, 1]]), [[0, -4], [5, 2], [10, 4]])


@pytest.mark.gymnasium
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_clock_that_truncates_does_not_change_what_states_are_worth(counter, autoreset):
    """Reward 1 for ever, whatever the clock says: V = 1 / (1 - γ), to 1 %."""
    config = jaxrl.configure(
        {},
        {
            "total_env_steps": 32 * 8 * 150,
            "env.suite": "gymnasium",
            "env.name": "Parity-v0",  # whose last observation is one that has been learned from
            "env.autoreset": autoreset,
            "network.hidden_sizes": (32,),
            "network.activation": "tanh",
            "ppo.num_envs": 32,
            "ppo.unroll_length": 8,
            "ppo.num_minibatches": 2,
            "ppo.learning_rate": 1e-2,
            "ppo.learning_rate_schedule": "linear",
            "ppo.gamma": GAMMA,
        },
    )
    env = suite.make(config.env, 32)
    algorithm = agent.make(config, env.spec)
    init, run = hosted.make(env, algorithm)
    state, metrics = run(init(jax.random.key(0), algorithm.hyper), np.int32(150))
    obs = jnp.arange(2.0)[:, None]
    _, _, memo = algorithm.act(state.agent, (), obs, jnp.zeros(2, bool), jax.random.key(0))
    np.testing.assert_allclose(memo.value, 1 / (1 - GAMMA), rtol=0.01)
    assert metrics["rollout/episode_length"] == 5


@pytest.fixture
def dice():
    """An environment of random numbers, some in a dictionary, whose episodes end when they like."""
    gymnasium = pytest.importorskip("gymnasium")

    class Dice(gymnasium.Env):
        def __init__(self, fault=""):
            box = gymnasium.spaces.Box(-9, 9, (2,), np.float64)
            self.observation_space = gymnasium.spaces.Dict(numbers=box, face=gymnasium.spaces.Discrete(6))
            self.action_space, self.fault = gymnasium.spaces.Discrete(3), fault

        def see(self):
            return {"numbers": self.np_random.uniform(-9, 9, 2), "face": int(self.np_random.integers(6))}

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            return self.see(), {}

        def step(self, action):
            if self.fault == "raises":
                raise RuntimeError("no dice\nat all")
            if self.fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            return self.see(), float(action) + self.np_random.random(), self.np_random.random() < 0.2, False, {}

    for fault in ("", "raises", "dies"):
        gymnasium.register(f"Dice{fault}-v0", entry_point=Dice, max_episode_steps=7, kwargs={"fault": fault})
    yield
    for fault in ("", "raises", "dies"):
        del gymnasium.registry[f"Dice{fault}-v0"]


def shown(name, **options):
    """All that 40 steps of five environments show, twice from a reset."""
    env, rng, seen = make(name, 5, **options), np.random.default_rng(0), []
    for seed in (0, 1):
        state, timestep = env.reset(jax.random.key(seed))
        seen.append(timestep)
        for _ in range(40):
            state, timestep = env.step(state, rng.integers(0, 3, 5))
            seen.append(timestep)
    return seen


@pytest.mark.gymnasium
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_several_processes_show_what_one_does_bit_for_bit(dice, autoreset):
    """The classes are of this function: they go to the other processes by value."""
    one = shown("Dice-v0", autoreset=autoreset, vectorization="sync")
    three = shown("Dice-v0", autoreset=autoreset, num_workers=3)
    jax.tree.map(np.testing.assert_array_equal, one, three)
    assert any(each.terminated.any() for each in one) and any(each.truncated.any() for each in one)
    assert jax.tree.map(lambda x: x.dtype, one) == jax.tree.map(lambda x: x.dtype, three)


@pytest.mark.gymnasium
def test_several_processes_draw_what_one_does(counter):
    one = play(make("Counter-v0", pixels=2, vectorization="sync"), 6)
    jax.tree.map(np.testing.assert_array_equal, one, play(make("Counter-v0", pixels=2, num_workers=2), 6))


@pytest.mark.gymnasium
@pytest.mark.parametrize(
    ("fault", "said"), [("raises", r"fails \(RuntimeError: no dice at all\)"), ("dies", r"has ended \(SIGKILL\)")]
)
def test_an_environment_that_fails_in_a_process_of_its_own_is_one_line(dice, fault, said):
    env = make(f"Dice{fault}-v0", num_workers=2)
    state, _ = env.reset(jax.random.key(0))
    with pytest.raises(ConfigError, match=rf"^[^\n]*vectorization=sync: in this one\) {said}[^\n]*$"):
        env.step(state, np.zeros(2, int))
    with pytest.raises(ConfigError, match=r"^[^\n]*has ended[^\n]*$"):  # and no answer to the question before
        env.step(state, np.zeros(2, int))


@pytest.mark.gymnasium
def test_what_cannot_be_sent_to_a_process_of_its_own_is_one_line(dice, monkeypatch):
    class Rooted(str):
        __deepcopy__ = lambda self, memo: self  # noqa: E731

        def __reduce_ex__(self, protocol):
            raise TypeError("it stays here")

    monkeypatch.setitem(suite.library().registry["Dice-v0"].kwargs, "fault", Rooted())
    with pytest.raises(
        ConfigError,
        match=r"^[^\n]*=sync: in this one\) cannot be sent there \(TypeError: it stays here\)\.$",
    ):
        make("Dice-v0", num_workers=2)


def test_a_process_for_each_core_if_that_gives_each_enough(monkeypatch):
    monkeypatch.setattr(gymnasium_workers.cores, "number", lambda: 8)
    assert [gymnasium_workers.number(0, num_envs) for num_envs in (1, 16, 31, 32, 127, 4096)] == [1, 1, 1, 2, 7, 8]
    assert [gymnasium_workers.number(3, num_envs) for num_envs in (1, 2, 64)] == [1, 2, 3]


@pytest.mark.gymnasium
def test_spaces_that_are_not_ours_are_one_line(counter):
    spaces = counter.spaces
    assert suite.action_space("x", spaces.Discrete(3, start=2))[0] == Discrete(3)
    assert suite.action_space("x", spaces.MultiDiscrete([3, 2]))[0] == MultiDiscrete((3, 2))
    np.testing.assert_array_equal(suite.action_space("x", spaces.Discrete(3, start=2))[1]([0, 2]), [2, 4])
    see = suite.observations("x", spaces.Dict(n=spaces.Discrete(3), image=spaces.Box(0, 255, (4, 4, 3), np.uint8)))
    seen = see({"n": np.array([2]), "image": np.zeros((1, 4, 4, 3), np.uint8)})
    np.testing.assert_array_equal(seen["n"], [[0, 0, 1]])
    assert seen["image"].dtype == np.uint8
    with pytest.raises(ConfigError, match=r"^[^\n]*no bounded Box[^\n]*register that\.$"):
        suite.action_space("x", spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ConfigError, match=r"^[^\n]*FlattenObservation[^\n]*$"):
        suite.observations("x", spaces.Tuple([spaces.Discrete(2)]))


@pytest.mark.gymnasium
def test_what_an_environment_lacks_is_one_line():
    with pytest.raises(ConfigError, match=r"^[^\n]*did you mean 'CartPole-v1'[^\n]*$"):
        make("CartPole-v11")
    with pytest.raises(ConfigError, match=r"^[^\n]*nowhere[^\n]*pip install[^\n]*$"):
        make("nowhere_to_be_found:CartPole-v1")
