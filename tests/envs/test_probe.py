"""The probes pay what their table says: known policies, played by numpy, reach what is known of them.

Letters in shapes: T steps, N environments, H value heads.
"""

import itertools

import jax
import numpy as np
import pytest

from jaxrl.envs import probe
from jaxrl.types import ConfigError

NUM_ENVS = 64
GAMMA = 0.9


def make(name, num_envs=NUM_ENVS, **options):
    config = probe.default_config()
    config.update({"name": name} | options)
    return probe.make(config, num_envs)


def play(env, policy, num_steps):
    """What is seen before each step, and what follows it, [T, N]: policy(obs) -> action, both of numpy."""
    step = jax.jit(env.step)
    state, timestep = jax.jit(env.reset)(jax.random.key(0))
    seen, after = [], []
    for _ in range(num_steps):
        seen.append(timestep.obs)
        state, timestep = step(state, policy(jax.tree.map(np.asarray, timestep.obs)))
        after.append(timestep)
    return tuple(jax.tree.map(lambda *x: np.stack(x), *steps) for steps in (seen, after))


def number(x):
    return np.broadcast_to(np.float32(x), NUM_ENVS)[:, None]


def option(k, num_envs=NUM_ENVS):
    return np.broadcast_to(np.int32(k), num_envs)


def discounted(reward):
    """[N] or [N, H], the return of one episode [T, N] or [T, N, H]."""
    return np.tensordot(GAMMA ** np.arange(len(reward)), reward, axes=1)


@pytest.mark.parametrize(
    "name, steps, best",
    [
        ("constant", 1, 1.0),
        ("delayed", 2, GAMMA),
        ("target", 1, 0.0),
        ("arms", 1, 1.0),
        ("fuse", 3, 1 + GAMMA + GAMMA**2),
        ("two_heads", 3, (1 + GAMMA + GAMMA**2, 5 * GAMMA**2)),
    ],
)
def test_a_timed_probe_is_worth_what_its_table_says_and_then_terminates(name, steps, best):
    policy = (lambda obs: 0.5 * obs[:, 1:]) if name == "target" else lambda obs: number(0.7)
    _, after = play(make(name), policy, steps)
    np.testing.assert_allclose(discounted(after.reward), np.broadcast_to(best, after.reward.shape[1:]), rtol=1e-6)
    assert after.terminated[-1].all() and not after.terminated[:-1].any() and not after.truncated.any()


def test_the_clock_truncates_and_is_not_shown():
    seen, after = play(make("clock", episode_length=5), lambda obs: number(0.0), 10)
    np.testing.assert_array_equal(np.flatnonzero(after.truncated.all(axis=1)), [4, 9])
    assert (after.reward == 1).all() and not after.terminated.any() and (seen[..., 0] == 0).all()


def test_a_wrong_arm_pays_nothing_and_a_missed_target_its_square():
    assert (play(make("arms"), lambda obs: number(-0.7), 1)[1].reward == 0).all()
    seen, after = play(make("target"), lambda obs: number(3.0), 1)  # clipped to 1
    np.testing.assert_allclose(after.reward, -((1 - 0.5 * seen[..., 1]) ** 2), rtol=1e-6)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_recall_shows_its_bit_once_and_is_without_memory_worth_minus_one(delay):
    env = make("recall", delay=delay)
    always = [play(env, lambda obs, k=k: option(k), delay + 1) for k in (0, 1)]
    (seen, zeros), (_, ones) = always
    assert set(np.unique(seen[0, :, 0])) == {-1, 1}
    assert (seen[1:, :, 0] == 0).all()
    np.testing.assert_array_equal(seen[:, 0, 1], np.arange(delay + 1) == delay)
    np.testing.assert_array_equal(zeros.reward[-1] + ones.reward[-1], np.full(NUM_ENVS, -2))
    np.testing.assert_array_equal(ones.reward[-1], seen[0, :, 0] - 1)  # 0 for a bit of 1, -2 for one of -1
    assert (zeros.reward[:-1] == 0).all() and zeros.terminated[-1].all() and not zeros.terminated[:-1].any()


def test_recall_pays_nothing_to_a_memory_whatever_it_said_before_it_was_asked():
    remembered = np.zeros(NUM_ENVS, np.int32)

    def policy(obs):
        shown = obs[:, 0] != 0
        remembered[shown] = (obs[:, 0] > 0)[shown]
        return np.where(obs[:, 1] == 1, remembered, 1 - remembered)

    _, after = play(make("recall"), policy, 12)
    assert (after.reward == 0).all()
    np.testing.assert_array_equal(after.terminated.sum(axis=0), np.full(NUM_ENVS, 3))


def test_recall_that_asks_after_the_episode_is_refused():
    with pytest.raises(ConfigError, match=r"^config.env.delay=8 [^\n]*config.env.episode_length=9[^\n]*$"):
        make("recall", delay=8)


def test_the_best_of_the_allowed_arms_is_worth_34_fifteenths():
    number_of = 4096
    best = lambda obs: np.int32(3 - np.argmax(obs["action_mask"][:, ::-1], axis=1))  # noqa: E731
    seen, after = play(make("masked_arms", number_of), best, 1)
    mask = seen["action_mask"][0]
    counts = np.bincount(mask @ (1 << np.arange(4)), minlength=16)
    assert counts[0] == 0
    # 15 masks as likely: about 273 ± 16 of each.
    np.testing.assert_allclose(counts[1:], number_of / 15, atol=5 * np.sqrt(number_of / 15))
    np.testing.assert_array_equal(after.reward[0], np.max(mask * np.arange(4), axis=1))
    assert abs(after.reward.mean() - 34 / 15) < 5 * 0.93 / np.sqrt(number_of)  # the variance is 194/225
    assert (after.metrics["illegal"] == 0).all() and (seen["policy"] == 0).all()


@pytest.mark.parametrize("arm", range(4))
def test_an_arm_that_is_not_allowed_pays_100_and_is_counted(arm):
    seen, after = play(make("masked_arms"), lambda obs: option(arm), 1)
    allowed = seen["action_mask"][0, :, arm]
    assert allowed.any() and not allowed.all()
    np.testing.assert_array_equal(after.reward[0], np.where(allowed, arm, 100))
    np.testing.assert_array_equal(after.metrics["illegal"][0], ~allowed)


def test_matching_counts_the_parts_that_match():
    env = make("matching")
    seen, _ = play(env, lambda obs: np.zeros((NUM_ENVS, 2), np.int32), 1)
    first, second = np.argmax(seen[0, :, :3], axis=1), np.argmax(seen[0, :, 3:], axis=1)
    assert (seen.sum(axis=-1) == 2).all() and set(first) == {0, 1, 2} and set(second) == {0, 1, 2, 3}
    for one, other in itertools.product(range(3), range(4)):
        _, after = play(env, lambda obs, pair=(one, other): np.tile(np.int32(pair), (NUM_ENVS, 1)), 1)
        np.testing.assert_array_equal(after.reward[0], 1.0 * (first == one) + (second == other))


def test_mixture_pays_its_number_and_its_option():
    best = lambda obs: (0.5 * obs[:, :1], np.int32(np.argmax(obs[:, 1:], axis=1)))  # noqa: E731
    seen, after = play(make("mixture"), best, 3)
    np.testing.assert_array_equal(after.reward, np.ones((3, NUM_ENVS)))
    assert set(np.argmax(seen[0, :, 1:], axis=1)) == {0, 1, 2}
    seen, after = play(make("mixture"), lambda obs: (number(-2.0), option(1)), 1)  # clipped to -1
    expected = (seen[0, :, 2] == 1) - (-1 - 0.5 * seen[0, :, 0]) ** 2
    np.testing.assert_allclose(after.reward[0], expected, rtol=1e-5, atol=1e-6)


def test_asymmetric_shows_its_cause_to_the_critic_alone():
    env = make("asymmetric")
    seen, after = play(env, lambda obs: number(1.0), 4)
    np.testing.assert_array_equal(after.reward, seen["critic"][..., 0])
    assert set(np.unique(after.reward)) == {-1, 1} and (seen["policy"] == 0).all()
    np.testing.assert_array_equal(after.reward, play(env, lambda obs: number(-1.0), 4)[1].reward)


def test_image_has_one_bright_pixel_whose_half_must_be_named():
    env = make("image")
    half = lambda obs: np.int32(obs[:, :, 4:].any(axis=(1, 2, 3)))  # noqa: E731
    seen, after = play(env, half, 4)
    assert seen.dtype == np.uint8 and set(np.unique(seen)) == {0, 255}
    assert ((seen == 255).sum(axis=(2, 3, 4)) == 1).all()
    drawn = (seen == 255).any(axis=(0, 1, 4))
    assert drawn.any(axis=0).all() and drawn.any(axis=1).all()  # every row and column
    assert (after.reward == 1).all()
    assert (play(env, lambda obs: 1 - half(obs), 4)[1].reward == 0).all()
