"""Jumanji's environments under our clock; checked against Jumanji's own reset and step, with its own clock.

Letters in shapes: T steps, N environments.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import jumanji as suite
from jaxrl.envs.spaces import example
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete

NUM_ENVS = 4


def make(name, restarts=False, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, NUM_ENVS, restarts)


def play(env, actions, seed=0):
    """The first timestep and those after it, [T, N], under given actions [T, N, ...]."""

    @jax.jit
    def run(key):
        state, first = env.reset(key)
        return first, jax.lax.scan(env.step, state, actions)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(seed)))


def play_theirs(name, actions, seed=0, **options):
    """Jumanji's own first timestep [N] and those after it [T, N], from the same keys, with its own clock."""
    import jumanji
    import jumanji.wrappers

    env = jumanji.wrappers.MultiToSingleWrapper(jumanji.make(name, **options))  # rewards added up, if there are many
    _, begin_key = jax.random.split(jax.random.key(seed))
    keys = jax.random.key_data(jax.random.split(begin_key, NUM_ENVS))

    @jax.jit
    def run(keys):
        state, first = jax.vmap(env.reset)(keys)
        return first, jax.lax.scan(jax.vmap(env.step), state, actions)[1]

    with warnings.catch_warnings(action="ignore"):
        return jax.tree.map(np.asarray, run(keys))


def check_obs(ours, theirs, names):
    """Every part of Jumanji's observation is in ours, those of `names` {name: number of the first} as one of n."""
    theirs = {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in jax.tree.leaves_with_path(theirs)}
    assert set(ours) == set(theirs)
    for name in theirs.keys() - {"action_mask"}:
        if name in names:
            np.testing.assert_array_equal(ours[name].sum(axis=-1), 1)
            np.testing.assert_array_equal(np.argmax(ours[name], axis=-1) + names[name], theirs[name], err_msg=name)
        else:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-6, err_msg=name)
            assert ours[name].dtype == (bool if theirs[name].dtype == bool else np.float32)


def test_without_jumanji_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "jumanji", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[jumanji\]'[^\n]*$"):
        make("Snake-v1")


# Each with the numbers of its first names and its limit; random actions [T, N] are often illegal, and end some games.
@pytest.mark.jumanji
@pytest.mark.parametrize(
    "name, names, limit",
    [
        ("Snake-v1", {}, 4000),
        ("Game2048-v1", {"board": 0}, None),
        ("Maze-v0", {}, 100),
        pytest.param("Connector-v3", {"grid": 0}, 50, marks=pytest.mark.slow),
        ("GraphColoring-v1", {"colors": -1, "current_node_index": 0}, None),
    ],
)
def test_a_game_goes_as_jumanjis_own(name, names, limit):
    env = make(name)
    sizes = env.spec.action.sizes if isinstance(env.spec.action, MultiDiscrete) else (env.spec.action.size,)
    actions = np.random.default_rng(0).integers(0, sizes, (25, NUM_ENVS, len(sizes)), np.int32)
    actions = actions if isinstance(env.spec.action, MultiDiscrete) else actions[..., 0]
    first, steps = play(env, actions)
    their_first, theirs = play_theirs(name, actions)
    check_obs(first.obs, their_first.observation, names)
    check_obs(steps.final_obs, theirs.observation, names)
    np.testing.assert_allclose(steps.reward, theirs.reward, rtol=1e-6)
    assert set(steps.metrics) == set(theirs.extras)
    in_time = (np.arange(25) + 1 < (limit or np.inf))[:, None]
    np.testing.assert_array_equal(steps.terminated & in_time, theirs.last() & in_time)
    assert env.spec.truncation_interval == (limit or 10_000_000)


@pytest.mark.jumanji
def test_our_clock_truncates_where_jumanjis_would_terminate():
    name = "RubiksCube-partly-scrambled-v0"
    there_and_back = np.tile(np.int32([[0, 0, 0], [0, 0, 1]])[np.arange(20) % 2][:, None], (1, NUM_ENVS, 1))
    _, steps = play(make(name), there_and_back)
    _, theirs = play_theirs(name, there_and_back)
    check_obs(steps.final_obs, theirs.observation, {"cube": 0})
    assert theirs.last()[19].all() and (theirs.discount[19] == 0).all()
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated.all(axis=1)), [19])
    assert not steps.truncated[:19].any() and not steps.terminated.any()
    np.testing.assert_array_equal(steps.final_obs["step_count"][19], 20)


@pytest.mark.jumanji
def test_a_limit_of_the_users_own_is_longer_or_shorter_than_jumanjis():
    turn = np.zeros((30, NUM_ENVS, 3), np.int32)
    for limit in (7, 30):
        _, steps = play(make("RubiksCube-partly-scrambled-v0", episode_length=limit), turn)
        assert steps.truncated[limit - 1].all() and not steps.truncated[: limit - 1].any()
        assert not steps.terminated.any()


@pytest.mark.jumanji
def test_a_snake_that_leaves_the_board_terminates_and_begins_anew():
    up = np.zeros((13, NUM_ENVS), np.int32)
    first, steps = play(make("Snake-v1", restarts=True), up)
    row = np.argwhere(first.obs["grid"][..., 1])[:, 1]  # of the head, [N]
    np.testing.assert_array_equal(np.argmax(steps.terminated, axis=0), row)
    assert not steps.truncated.any()
    ended = row, np.arange(NUM_ENVS)
    assert (steps.obs["step_count"][ended] == 0).all()
    np.testing.assert_array_equal(steps.final_obs["step_count"][ended], row + 1)
    heads = steps.obs["grid"][ended][..., 1]
    np.testing.assert_array_equal(heads.sum(axis=(1, 2)), 1)


@pytest.mark.jumanji
def test_where_nothing_is_allowed_everything_is():
    order = np.tile(np.arange(20, dtype=np.int32)[:, None], (1, NUM_ENVS))  # of the cities
    _, steps = play(make("TSP-v1"), order)
    _, theirs = play_theirs("TSP-v1", order)
    np.testing.assert_array_equal(steps.final_obs["action_mask"][:19], theirs.observation.action_mask[:19])
    assert not theirs.observation.action_mask[19].any() and steps.final_obs["action_mask"][19].all()
    assert steps.terminated[19].all() and not steps.terminated[:19].any()


@pytest.mark.jumanji
def test_each_decision_has_its_part_of_the_mask():
    _, steps = play(make("Connector-v3"), np.ones((6, NUM_ENVS, 10), np.int32))
    _, theirs = play_theirs("Connector-v3", np.ones((6, NUM_ENVS, 10), np.int32))
    mask = steps.final_obs["action_mask"].reshape(6, NUM_ENVS, 10, 5)
    assert theirs.observation.action_mask.any(axis=-1).all()  # standing still is always allowed
    np.testing.assert_array_equal(mask, theirs.observation.action_mask)


@pytest.mark.jumanji
def test_a_mask_of_combinations_makes_them_the_options():
    env = make("Tetris-v0")
    assert env.spec.action == Discrete(40)
    options = np.random.default_rng(1).integers(0, 40, (12, NUM_ENVS), np.int32)
    rotation, column = options // 10, options % 10
    _, steps = play(env, options)
    _, theirs = play_theirs("Tetris-v0", np.stack([rotation, column], axis=-1))
    check_obs(steps.final_obs, theirs.observation, {})
    np.testing.assert_array_equal(steps.reward, theirs.reward)
    np.testing.assert_array_equal(steps.terminated, theirs.last())
    mask = steps.final_obs["action_mask"].reshape(12, NUM_ENVS, 4, 10)
    np.testing.assert_array_equal(mask[0], theirs.observation.action_mask[0])


@pytest.mark.slow
@pytest.mark.jumanji
def test_searchers_are_paid_by_the_clock_that_they_see():
    env = make("SearchAndRescue-v0", episode_length=20)
    assert env.spec.action == Box((2, 2))
    actions = np.random.default_rng(2).uniform(-1, 1, (20, NUM_ENVS, 2, 2)).astype(np.float32)
    actions[..., 1] = 1.0  # full speed ahead
    _, steps = play(env, actions)
    _, theirs = play_theirs("SearchAndRescue-v0", actions, time_limit=20)
    assert (theirs.reward > 0).any()
    np.testing.assert_allclose(steps.reward, theirs.reward, rtol=1e-5)
    check_obs(steps.final_obs, theirs.observation, {})
    assert steps.truncated[19].all() and not steps.terminated.any()


@pytest.mark.jumanji
def test_a_mask_of_neither_kind_is_refused(monkeypatch):
    import jumanji
    from jumanji import specs

    env = jumanji.make("Snake-v1")
    env.action_spec = specs.MultiDiscreteArray(jnp.array([2, 3]))
    monkeypatch.setattr(suite, "_load", lambda name, episode_length: (env, 10))
    with pytest.raises(ConfigError, match=r"^config.env.name='odd' cannot be: its action_mask \(4,\) is [^\n]*$"):
        make("odd")


@pytest.mark.jumanji
def test_an_environment_that_cannot_download_its_data_is_one_line(monkeypatch):
    import jumanji

    def fail(name):
        raise FileNotFoundError("no network\nno levels")

    monkeypatch.setattr(jumanji, "make", fail)
    with pytest.raises(
        ConfigError, match=r"^config.env.name='Sokoban-v0' cannot be made \(no network no levels\)[^\n]*$"
    ):
        make("Sokoban-v0")


@pytest.mark.slow
@pytest.mark.jumanji
def test_every_environment_keeps_the_types_of_its_state_and_observation(keys_unchecked):
    names = set(suite.names()) - {"Sokoban-v0"}  # which would download its levels
    assert len(names) >= 25
    for name in names:
        env = make(name)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, NUM_ENVS))
        # By leaf, for Jumanji's own containers cannot be compared.
        assert jax.tree.leaves(again) == jax.tree.leaves(state) and timestep == first, name
        numbers = {x.dtype for name, x in env.spec.obs.items() if name != "action_mask"}
        assert numbers <= {jnp.dtype(jnp.float32), jnp.dtype(bool)}, name
