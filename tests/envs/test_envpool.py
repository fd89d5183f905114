"""EnvPool: the library driven by hand, its restarts that nobody learns from, and what an end is worth."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import hosted
from jaxrl.algorithms.ppo import agent
from jaxrl.envs import envpool as suite
from jaxrl.envs.quiet import quiet
from jaxrl.types import ConfigError, Discrete

GAMMA = 0.9
LIVES = ("episodic_life=true", "reward_clip=true")


@pytest.fixture
def library():
    return suite._library()


def make(name, num_envs=2, restarts=True, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, num_envs, restarts)


def play(env, actions):
    """The first timestep and those after it, stacked, [T, N, ...]."""
    state, first = env.reset(jax.random.key(0))
    steps = []
    for action in actions:
        state, timestep = env.step(state, jnp.asarray(action))
        steps.append(timestep)
    return first, jax.tree.map(lambda *x: np.stack(x), *steps)


def by_hand(library, name, actions, **options):
    """First obs, and obs, reward, terminated, truncated, elapsed steps [T, N] of a pool of the library's own."""
    seed = int(jax.random.randint(jax.random.key(0), (), 0, 2**31 - 1))
    with quiet():
        pool = library.make_gymnasium(name, num_envs=actions.shape[1], seed=seed, num_threads=1, **options)
        first, rows = pool.reset()[0].copy(), []
    for action in actions:
        *shown, info = pool.step(np.array(action))
        rows.append([x.copy() for x in (*shown, info["elapsed_step"])])
    return first, *map(np.stack, zip(*rows, strict=True))


def random_actions(env, num_steps):
    draw = np.random.default_rng(0)
    if isinstance(env.spec.action, Discrete):
        return draw.integers(0, env.spec.action.size, (num_steps, env.spec.num_envs))
    # Sixteenths, so that stretching them from [-1, 1] to [-1, 1] does not round.
    return draw.integers(-16, 17, (num_steps, env.spec.num_envs, *env.spec.action.shape)) / 16


@pytest.mark.envpool
@pytest.mark.parametrize(("name", "limit", "terminates"), [("HalfCheetah-v4", 11, False), ("CartPole-v1", 15, True)])
def test_it_is_the_library_driven_by_hand_and_the_restarts_are_not_valid(library, name, limit, terminates):
    env = make(name, 3, episode_length=limit)
    actions = random_actions(env, 200)
    first, steps = play(env, actions)
    begin, obs, reward, terminated, truncated, elapsed = by_hand(library, name, actions, max_episode_steps=limit)
    np.testing.assert_array_equal(first.obs, np.float32(begin))
    np.testing.assert_array_equal(steps.obs, np.float32(obs))
    np.testing.assert_array_equal(steps.final_obs, np.float32(obs))
    np.testing.assert_array_equal(steps.reward, reward)
    np.testing.assert_array_equal(steps.terminated, terminated)
    np.testing.assert_array_equal(steps.truncated, truncated)
    np.testing.assert_array_equal(steps.valid, elapsed > 0)
    done = steps.terminated | steps.truncated
    np.testing.assert_array_equal(~steps.valid[1:], done[:-1])
    assert (~steps.valid).sum() >= 3 and (steps.reward[~steps.valid] == 0).all()
    assert steps.truncated.any() and steps.terminated.any() == terminates


@pytest.mark.envpool
def test_a_truncated_step_carries_the_observation_that_the_episode_would_go_on_from(library):
    env = make("HalfCheetah-v4", 3, episode_length=5)
    actions = random_actions(env, 5)
    _, steps = play(env, actions)
    _, obs, *_ = by_hand(library, "HalfCheetah-v4", actions)  # with its own limit of 1,000 steps
    np.testing.assert_array_equal(steps.truncated, np.arange(5)[:, None].repeat(3, axis=1) == 4)
    np.testing.assert_array_equal(steps.final_obs, np.float32(obs))


@pytest.mark.envpool
def test_what_is_thrown_away_in_a_restart_does_not_matter():
    env = make("HalfCheetah-v4", 3, episode_length=5)
    actions = random_actions(env, 12)
    _, steps = play(env, actions)
    actions[5] = -actions[5]
    _, others = play(env, actions)
    assert not steps.valid[5].any()
    jax.tree.map(np.testing.assert_array_equal, steps, others)


@pytest.mark.envpool
def test_nobody_overwrites_what_was_shown():
    env = make("HalfCheetah-v4", 3, episode_length=5)
    kept, copies = [], []
    state, timestep = env.reset(jax.random.key(0))
    for action in random_actions(env, 100):
        state, timestep = env.step(state, action)
        kept.append(timestep)
        copies.append(jax.tree.map(np.copy, timestep))
    jax.tree.map(np.testing.assert_array_equal, kept, copies)


@pytest.mark.envpool
def test_the_channels_of_images_come_last(library):
    env = make("Pong-v5", options=("stack_num=3", "img_height=21", "img_width=30"))
    assert env.spec.obs == jax.ShapeDtypeStruct((21, 30, 3), np.uint8)
    actions = random_actions(env, 60)
    first, steps = play(env, actions)
    begin, obs, *_ = by_hand(library, "Pong-v5", actions, stack_num=3, img_height=21, img_width=30)
    for ours, theirs in ((first.obs, begin), (steps.obs, obs)):
        for channel in range(3):
            np.testing.assert_array_equal(ours[..., channel], theirs[..., channel, :, :])
    assert (steps.obs[..., 0] != steps.obs[..., 2]).any()


@pytest.mark.envpool
def test_evaluation_plays_whole_games_for_their_score_and_training_what_was_asked(library):
    actions = np.random.default_rng(0).integers(0, 4, (300, 2))
    ends = []
    for restarts, changed in ((True, True), (False, False)):
        env = make("Breakout-v5", 2, restarts, options=LIVES)
        _, steps = play(env, actions)
        options = {"episodic_life": changed, "reward_clip": changed}
        _, obs, reward, terminated, *_ = by_hand(library, "Breakout-v5", actions, **options)
        np.testing.assert_array_equal(steps.obs, np.moveaxis(obs, 2, -1))
        np.testing.assert_array_equal(steps.reward, reward)
        np.testing.assert_array_equal(steps.terminated, terminated)
        ends.append(terminated.sum())
    assert ends[0] > 3 * ends[1]


@pytest.mark.envpool
def test_a_mask_is_of_options(library):
    env = make("Snake-v1")
    assert env.spec.obs["action_mask"] == jax.ShapeDtypeStruct((4,), bool)
    assert env.reset(jax.random.key(0))[1].obs["action_mask"].any(axis=-1).all()


@pytest.mark.envpool
def test_a_clock_that_truncates_does_not_change_what_states_are_worth():
    """Reward 1 for ever, whatever the clock says: V = 1 / (1 - γ), to 1 %. No pole falls within 5 steps."""
    config = jaxrl.configure(
        {},
        {
            "total_env_steps": 32 * 8 * 70,
            "env.suite": "envpool",
            "env.name": "CartPole-v1",
            "env.episode_length": 5,
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
    state, metrics = run(init(jax.random.key(0), algorithm.hyper), np.int32(70))
    obs = jnp.asarray(env.reset(jax.random.key(1))[1].obs)
    _, _, memo = algorithm.act(state.agent, (), obs, jnp.zeros(32, bool), jax.random.key(0))
    np.testing.assert_allclose(memo.value, 1 / (1 - GAMMA), rtol=0.01)
    assert metrics["rollout/episode_length"] == 5 and metrics["rollout/episode_return"] == 5


def test_without_envpool_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[envpool\]'[^\n]*$"):
        make("HalfCheetah-v5")


@pytest.mark.envpool
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Pong-v5", ("frame_skp=4",), "'frame_skp' is no option of Pong-v5; did you mean 'frame_skip'"),
        ("Pong-v5", ("seed=4",), "'seed' is no option of Pong-v5; "),
        ("Pong-v5", ("frame_skip",), "'frame_skip' is no option; write name=value, such as frame_skip=4"),
        ("Pong-v5", ("frame_skip=much",), "'Pong-v5' cannot be made (.*)"),
        ("Go9x9-v1", (), "'Go9x9-v1' has several players"),
        ("Sudoku-v0", (), "'Sudoku-v0' takes Box.*which is no bounded Box"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_cure(name, options, says):
    with pytest.raises(ConfigError, match=rf"^config.env.(name|options)={says}[^\n]*$"):
        make(name, options=options)


@pytest.mark.envpool
def test_a_time_limit_that_would_not_be_kept_is_one_line():
    assert make("Catch-v0").spec.truncation_interval == 1
    assert make("HalfCheetah-v5").spec.truncation_interval == 1000
    with pytest.raises(ConfigError, match=r"^config.env.episode_length=3 is not kept by Catch-v0; [^\n]*$"):
        make("Catch-v0", episode_length=3)
