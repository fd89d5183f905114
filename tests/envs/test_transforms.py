"""Transforms: frames beside each other, the time, actions that stick; on probes, where all is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import library
from jaxrl.envs import spaces, transforms
from jaxrl.types import Box, ConfigError, Environment, Spec, Timestep

NUM_ENVS = 3


def make(name="clock", **options):
    return jaxrl.make_env(f"probe/{name}", NUM_ENVS, **options)


def counter(resets="same_step"):
    """Shows the step of the episode, which a clock of 3 truncates; it begins anew in the same step, or in the next."""

    def show(time, obs, final, truncated, valid):
        flags = [jnp.full(NUM_ENVS, flag) for flag in (False, truncated, valid)]
        obs, final = (jnp.full((NUM_ENVS, 1), x, jnp.float32) for x in (obs, final))
        return time, Timestep(obs, jnp.zeros(NUM_ENVS), flags[0], flags[1], final, {}, flags[2])

    def step(time, action):
        period = 3 if resets == "same_step" else 4
        time = (time + 1) % period
        if resets == "same_step":
            return show(time, time, jnp.where(time == 0, 3, time), time == 0, True)
        return show(time, time, time, time == 3, time != 0)

    spec = Spec(NUM_ENVS, jax.ShapeDtypeStruct((1,), jnp.float32), Box((1,)), 1)
    return Environment(lambda key: show(jnp.int32(0), 0, 0, False, True), step, spec)


def play(env, actions):
    """The first timestep and those after it, of environment 0, [T, ...]."""
    state, first = env.reset(jax.random.key(0))
    steps = jax.lax.scan(env.step, state, actions)[1]
    return jax.tree.map(lambda x: np.asarray(x[0]), first), jax.tree.map(lambda x: np.asarray(x[:, 0]), steps)


NOTHING = jnp.zeros((7, NUM_ENVS, 1))


def test_frames_stand_side_by_side_and_begin_with_the_first_of_the_episode():
    first, steps = play(transforms.stack_frames(counter(), 3), NOTHING)
    np.testing.assert_array_equal(first.obs, [0, 0, 0])
    np.testing.assert_array_equal(steps.obs[:5], [[0, 0, 1], [0, 1, 2], [0, 0, 0], [0, 0, 1], [0, 1, 2]])
    # The end of an episode is seen with what was before it.
    np.testing.assert_array_equal(steps.final_obs[:4], [[0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 1]])


def test_frames_begin_anew_where_the_reset_is_in_the_step_after_the_end():
    _, steps = play(transforms.stack_frames(counter("next_step"), 2), NOTHING)
    np.testing.assert_array_equal(steps.final_obs[:3], [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(steps.obs[3:6], [[0, 0], [0, 1], [1, 2]])


def test_frames_of_images_stack_their_channels_and_leave_the_mask_alone():
    env = transforms.stack_frames(make("image"), 4)
    assert env.spec.obs.shape == (8, 8, 4)
    masked = transforms.stack_frames(make("masked_arms"), 2)
    whole = make("masked_arms").spec.obs
    assert masked.spec.obs["action_mask"] == whole["action_mask"]
    rest = masked.spec.obs.keys() - {"action_mask"}
    assert all(masked.spec.obs[name].shape[-1] == 2 * whole[name].shape[-1] for name in rest)
    assert library.check_env(masked, 30).faults == ()
    assert library.check_env(env, 30).faults == ()


def test_single_numbers_cannot_be_stacked():
    env = counter()
    env = env._replace(spec=env.spec._replace(obs=jax.ShapeDtypeStruct((), jnp.float32)))
    with pytest.raises(ConfigError, match=r"config\.env\.frame_stack=2 needs [^\n]*$"):
        transforms.stack_frames(env, 2)


@pytest.mark.parametrize(("resets", "times"), [("same_step", [1, 2, 0, 1, 2]), ("next_step", [1, 2, 0, 0, 1])])
def test_the_time_is_that_of_the_episode(resets, times):
    first, steps = play(transforms.show_time(counter(resets)), NOTHING)
    assert first.obs["time"] == 0
    np.testing.assert_array_equal(steps.obs["time"][:5, 0], times)
    np.testing.assert_array_equal(steps.final_obs["time"][:3, 0], [1, 2, 3])


def acted(env):
    """`env` whose metrics say what was done."""

    def step(state, action):
        state, timestep = env.step(state, action)
        return state, timestep._replace(metrics={"action": action[:, 0]})

    return env._replace(step=step)


def test_an_action_that_always_sticks_is_the_first_of_the_episode():
    actions = jnp.broadcast_to(jnp.arange(7.0)[:, None, None], (7, NUM_ENVS, 1))
    _, steps = play(transforms.stick_actions(acted(counter()), 1.0), actions)
    np.testing.assert_array_equal(steps.metrics["action"], [0, 0, 0, 3, 3, 3, 6])


def test_actions_stick_as_often_as_they_are_to():
    actions = jnp.broadcast_to(jnp.arange(3000.0)[:, None, None], (3000, NUM_ENVS, 1))
    _, steps = play(transforms.stick_actions(acted(counter()), 0.25), actions)
    stuck = steps.metrics["action"] != np.arange(3000)
    assert not stuck[::3].any()  # nothing sticks across episodes
    assert abs(stuck.mean() * 3 / 2 - 0.25) < 0.05  # 5 standard deviations


def test_they_compose_and_appear_in_the_spec():
    env = make("target", frame_stack=2, last_action=True, show_time=True, sticky_actions=0.1, masked=(0,))
    shapes = {name: leaf.shape for name, leaf in env.spec.obs.items()}
    assert shapes == {"policy": (2,), "last_action": (1,), "time": (1,)}
    assert library.check_env(env, 30).faults == ()


def test_only_the_named_parts_are_shown_and_the_mask():
    whole = make("masked_arms")
    env = transforms.keep(make_parts(), ("b",))
    assert set(env.spec.obs) == {"b", "action_mask"}
    _, first = env.reset(jax.random.key(0))
    assert set(first.obs) == set(first.final_obs) == {"b", "action_mask"}
    assert transforms.keep(whole, ()) is whole


def make_parts():
    """Shows three parts and what is only the critic's."""
    parts = {
        "b": jnp.arange(NUM_ENVS * 4.0).reshape(NUM_ENVS, 2, 2),
        "a": jnp.full((NUM_ENVS, 1), 7, jnp.int32),
        "critic": jnp.ones((NUM_ENVS, 5)),
        "action_mask": jnp.ones((NUM_ENVS, 2), bool),
    }
    no = jnp.zeros(NUM_ENVS, bool)
    timestep = Timestep(parts, jnp.full(NUM_ENVS, 2.0), no, no, parts, {}, ~no)
    shown = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)
    return Environment(lambda key: ((), timestep), lambda *_: ((), timestep), Spec(NUM_ENVS, shown, Box((1,)), 1))


def test_parts_become_one_vector_in_the_order_of_their_names_beside_what_is_special():
    env = transforms.flatten(make_parts())
    assert env.spec.obs["policy"] == jax.ShapeDtypeStruct((5,), jnp.float32)
    assert set(env.spec.obs) == {"policy", "critic", "action_mask"}
    _, first = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(first.obs["policy"], [[7, 0, 1, 2, 3], [7, 4, 5, 6, 7], [7, 8, 9, 10, 11]])
    alone = transforms.flatten(make("image"))
    assert isinstance(alone.spec.obs, jax.ShapeDtypeStruct) and len(alone.spec.obs.shape) == 1


def test_numbers_are_shown_in_another_precision_and_the_rest_as_it_is():
    env = transforms.cast(make_parts(), "bfloat16")
    assert {name: str(part.dtype) for name, part in env.spec.obs.items()} == {
        "a": "int32",
        "action_mask": "bool",
        "b": "bfloat16",
        "critic": "bfloat16",
    }
    _, first = env.reset(jax.random.key(0))
    assert jax.tree.map(lambda x: x.dtype, first.obs) == jax.tree.map(lambda x: x.dtype, env.spec.obs)


def test_the_sum_of_the_rewards_is_shown_and_begins_anew():
    env = transforms.show_return(transforms.change_reward(counter(), lambda reward: reward + 0.5))
    first, steps = play(env, NOTHING)
    np.testing.assert_array_equal(first.obs["return"], [0.0])
    np.testing.assert_array_equal(steps.obs["return"][:5, 0], [0.5, 1.0, 0.0, 0.5, 1.0])
    np.testing.assert_array_equal(steps.final_obs["return"][:4, 0], [0.5, 1.0, 1.5, 0.5])
    np.testing.assert_array_equal(steps.reward, np.full(7, 0.5))


def test_first_episodes_begin_at_different_times_and_later_ones_are_whole():
    length, rows = 8, 64
    env = jaxrl.make_env("probe/clock", rows, episode_length=length, stagger=True)
    state, _ = env.reset(jax.random.key(0))
    action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), spaces.example(env.spec.action, rows))
    steps = jax.lax.scan(lambda state, _: env.step(state, action), state, None, length=3 * length)[1]
    ends = [np.flatnonzero(column) for column in np.asarray(steps.truncated).T]
    first = np.array([end[0] for end in ends])
    assert set(first) == set(range(length))
    assert all((np.diff(end) == length).all() for end in ends)


@pytest.mark.parametrize(
    "options, message",
    [({"obs_keys": ("x",)}, "obs_keys='x' is not in the observation"), ({"stagger": True}, "stagger=True needs")],
)
def test_what_does_not_fit_is_one_line(options, message):
    with pytest.raises(ConfigError, match=f"^config.env.{message}[^\n]*$"):
        if "stagger" in options:
            transforms.stagger(counter())
        else:
            make("image", **options)
