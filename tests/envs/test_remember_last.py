"""What was done last and what it brought, beside the observation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import probe, spaces, transforms
from jaxrl.types import Box, Discrete, MultiDiscrete

NUM_ENVS = 4


def make(name, **chosen):
    config = probe.default_config()
    config.name = name
    return transforms.remember_last(probe.make(config, NUM_ENVS), **chosen)


def play(env, actions):
    """The timesteps from the reset on, [T + 1, N]."""

    @jax.jit
    def run(key, actions):
        state, first = env.reset(key)
        steps = jax.lax.scan(env.step, state, actions)[1]
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, steps)

    return jax.tree.map(np.asarray, run(jax.random.key(0), actions))


def test_last_action_and_rewards_of_each_head_are_zero_at_the_start_and_true_at_the_end():
    env = make("two_heads")  # three steps; rewards (1, 0), (1, 0), (1, 5)
    actions = np.float32([0.1, -0.2, 3.0, 0.4])  # one beyond the bounds counts as they do
    seen = play(env, np.tile(actions[:, None, None], (1, NUM_ENVS, 1)))
    everyone = lambda rows: np.tile(np.float32(rows)[:, None], (1, NUM_ENVS, 1))  # noqa: E731
    np.testing.assert_array_equal(seen.obs["last_action"], everyone([[0], [0.1], [-0.2], [0], [0.4]]))
    np.testing.assert_array_equal(seen.obs["last_reward"], everyone([[0, 0], [1, 0], [1, 0], [0, 0], [1, 0]]))
    np.testing.assert_array_equal(seen.final_obs["last_action"], everyone([[0], [0.1], [-0.2], [1], [0.4]]))
    np.testing.assert_array_equal(seen.final_obs["last_reward"], everyone([[0, 0], [1, 0], [1, 0], [1, 5], [1, 0]]))


def test_a_truncated_episode_is_forgotten_too():
    seen = play(make("clock"), np.full((9, NUM_ENVS, 1), 0.5, np.float32))
    assert seen.truncated[8].all()
    assert (seen.obs["last_reward"][8] == 0).all() and (seen.final_obs["last_reward"][8] == 1).all()
    assert (seen.obs["last_action"][9] == 0.5).all()


def test_everything_else_stays_as_it_was():
    actions = np.full((5, NUM_ENVS, 1), 0.5, np.float32)
    plain, seen = (play(make("fuse", action=wanted, reward=wanted), actions) for wanted in (False, True))
    for obs, plain_obs in ((seen.obs, plain.obs), (seen.final_obs, plain.final_obs)):
        np.testing.assert_array_equal(obs["policy"], plain_obs)
    jax.tree.map(np.testing.assert_array_equal, seen._replace(obs=0, final_obs=0), plain._replace(obs=0, final_obs=0))


def test_a_dict_keeps_its_names_and_the_spec_tells_of_all():
    env = make("masked_arms")
    f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    mask = jax.ShapeDtypeStruct((4,), bool)
    assert env.spec.obs == {"policy": f32(1), "action_mask": mask, "last_action": f32(4), "last_reward": f32(1)}
    seen = play(env, np.int32([[2] * NUM_ENVS]))
    np.testing.assert_array_equal(seen.final_obs["last_action"][1], np.tile([0, 0, 1, 0], (NUM_ENVS, 1)))
    np.testing.assert_array_equal(seen.final_obs["last_reward"][1, :, 0], seen.reward[1])


@pytest.mark.parametrize("action, reward, names", [(True, False, {"last_action"}), (False, True, {"last_reward"})])
def test_only_what_is_wanted_is_added(action, reward, names):
    assert set(make("matching", action=action, reward=reward).spec.obs) == {"policy"} | names


@pytest.mark.parametrize(
    "space, action, expected",
    [
        (Box((2, 2), -1.0, 2.0), [[[0.5, -4.0], [4.0, 1.0]]], [[0.5, -1, 2, 1]]),
        (Discrete(3), [1, 2], [[0, 1, 0], [0, 0, 1]]),
        (MultiDiscrete((2, 3)), [[1, 0], [0, 2]], [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
        ((Box((1,)), Discrete(2), MultiDiscrete((2,))), ([[0.25]], [1], [[0]]), [[0.25, 0, 1, 1, 0]]),
    ],
)
def test_actions_of_every_space_become_numbers(space, action, expected):
    action = jax.tree.map(jnp.asarray, action, is_leaf=lambda x: isinstance(x, list))
    encoded = spaces.encode(space, action)
    np.testing.assert_array_equal(encoded, np.float32(expected))
    assert encoded.dtype == jnp.float32
