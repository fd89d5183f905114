"""What every suite in jaxrl/envs promises; a new file there is found and tested by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.find import find, names
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete

USERS = {"torch_bridge"}  # suites of users' own environments: they list none and have no default; tests of their own
SUITES = [name for name in names("envs") if name not in USERS]
NUM_ENVS = 8
NUM_STEPS = 40

# What stands for a suite: one environment for each kind of observation and action; of a new suite, its default.
REPRESENTATIVES = {
    "brax": ("inverted_double_pendulum",),
    "dm_control": ("cartpole-balance", "finger-turn_easy"),
    "envpool": ("HalfCheetah-v5", "CartPole-v1", "MiniGrid-Empty-5x5-v0", "Pong-v5"),
    "gymnasium": ("CartPole-v1", "FrozenLake-v1"),
    "gymnax": ("CartPole-v1", "Pendulum-v1", "FrozenLake-misc", "Breakout-MinAtar"),
    "jumanji": ("Snake-v1", "Game2048-v1", "Cleaner-v0", "Tetris-v0"),
    "navix": ("Navix-Empty-Random-8x8-v0", "Navix-GoToDoor-5x5-v0"),
    "jaxmarl": ("MPE_simple_spread_v3", "MPE_simple_speaker_listener_v4", "HeuristicEnemySMAX"),
    "pgx": ("tic_tac_toe", "kuhn_poker"),
    "probe": tuple(find("envs", "probe").names()),
}


def cases(names_of):
    """(suite, name) for each name of each suite."""
    for suite in SUITES:
        for name in names_of(suite):
            yield pytest.param((suite, name), id=f"{suite}-{name}")


@pytest.fixture(scope="module", params=cases(lambda suite: ("default",)))
def suite(request):
    return find("envs", request.param[0])


@pytest.fixture(scope="module", params=cases(lambda suite: REPRESENTATIVES.get(suite, ("default",))))
def played(request):
    """An environment, its first timestep, and 40 random steps, [T, N]."""
    suite, name = request.param
    suite = find("envs", suite)
    config = suite.default_config()
    config.name = config.name if name == "default" else name
    config.episode_length = 12
    env = suite.make(config, NUM_ENVS)

    def play(key):
        reset_key, act_key = jax.random.split(key)
        state, first = env.reset(reset_key)
        return first, scan(env.step, state, sample(env.spec.action, env.spec.num_envs, act_key))[1]

    scan = jax.lax.scan if env.spec.traceable else one_by_one
    play = jax.jit(play) if env.spec.traceable else play
    return env, play, *play(jax.random.key(0))


def one_by_one(step, state, actions):
    """jax.lax.scan for an environment that lives on the host."""
    timesteps = []
    for t in range(NUM_STEPS):
        state, timestep = step(state, jax.tree.map(lambda x, t=t: x[t], actions))
        timesteps.append(timestep)
    return state, jax.tree.map(lambda *x: np.stack(x), *timesteps)


def sample(space, num_rows, key):
    """Random actions of any space, [T, N, ...]."""
    leading = (NUM_STEPS, num_rows)
    if isinstance(space, Box):
        return jax.random.uniform(key, (*leading, *space.shape), minval=space.low, maxval=space.high)
    if isinstance(space, Discrete):
        return jax.random.randint(key, leading, 0, space.size)
    if isinstance(space, MultiDiscrete):
        return jax.random.randint(key, (*leading, len(space.sizes)), 0, jnp.array(space.sizes))
    keys = jax.random.split(key, len(space))
    return tuple(sample(part, num_rows, key) for part, key in zip(space, keys, strict=True))


def equal(one, other):
    """[T, N]: where two pytrees of observations [T, N, ...] are the same."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    same = [(np.asarray(a) == np.asarray(b)).reshape(*a.shape[:2], -1).all(axis=-1) for a, b in leaves]
    return np.all(same, axis=0)


def test_shapes_and_types_are_those_of_the_spec(played):
    env, _, first, steps = played
    heads = () if env.spec.num_value_heads == 1 else (env.spec.num_value_heads,)
    rows = NUM_ENVS * env.spec.num_agents
    assert env.spec.num_envs == rows
    for timestep, leading in ((first, (rows,)), (steps, (NUM_STEPS, rows))):
        for obs in (timestep.obs, timestep.final_obs):
            expected = jax.tree.map(lambda s, lead=leading: ((*lead, *s.shape), s.dtype), env.spec.obs)
            assert jax.tree.map(lambda x: (x.shape, x.dtype), obs) == expected
        assert timestep.reward.shape == leading + heads and timestep.reward.dtype == jnp.float32
        assert timestep.terminated.shape == leading and timestep.terminated.dtype == bool
        assert timestep.truncated.shape == leading and timestep.truncated.dtype == bool
        assert timestep.valid.shape == leading and timestep.valid.dtype == bool
        assert all(metric.shape == leading for metric in timestep.metrics.values())


def test_a_suite_that_promises_valid_rows_has_no_other(played):
    env, _, _, steps = played
    assert steps.valid.all() or not env.spec.all_valid


def test_nothing_has_ended_at_the_reset(played):
    _, _, first, _ = played
    assert not first.terminated.any() and not first.truncated.any()


def test_an_episode_never_both_terminates_and_truncates_at_once(played):
    _, _, _, steps = played
    assert not (steps.terminated & steps.truncated).any()
    assert (steps.terminated | steps.truncated).any()


def test_no_environment_truncates_twice_within_the_declared_interval(played):
    env, _, _, steps = played
    for truncated in np.asarray(steps.truncated).T:
        gaps = np.diff(np.flatnonzero(truncated))
        assert (gaps >= env.spec.truncation_interval).all()


def test_no_episode_lasts_longer_than_its_length(played):
    _, _, _, steps = played
    done, valid = np.asarray(steps.terminated | steps.truncated), np.asarray(steps.valid)
    restarts = np.zeros_like(done)
    restarts[1:] = done[:-1] & ~valid[1:]
    for ends, taken in zip(done.T, np.cumsum(~restarts, axis=0).T, strict=True):
        assert np.diff(taken[ends], prepend=0).max() <= 12


def test_obs_and_final_obs_differ_only_where_an_episode_ended(played):
    _, _, _, steps = played
    done, valid = np.asarray(steps.terminated | steps.truncated), np.asarray(steps.valid)
    same = equal(steps.obs, steps.final_obs)
    assert same[~done].all()
    following = equal(jax.tree.map(lambda x: x[1:], steps.obs), jax.tree.map(lambda x: x[:-1], steps.final_obs))
    begins = np.where(valid[1:], same[:-1], following)  # where the next step goes unused, it is the restart
    assert not begins[done[:-1]].all()  # a new episode may look like the end of another where there is little to see


def test_the_same_key_plays_the_same_and_another_does_not(played):
    _, play, _, steps = played
    assert equal(steps.obs, play(jax.random.key(0))[1].obs).all()
    assert not equal(steps.obs, play(jax.random.key(1))[1].obs).all()


def test_an_accelerator_plays_the_same(played, monkeypatch):
    _, play, first, steps = played
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where `wrappers.fused` does more
    anew = jax.jit(play.__wrapped__) if hasattr(play, "__wrapped__") else play
    found = anew(jax.random.key(0))
    for one, other in zip(*map(jax.tree.leaves, (found[0], first)), strict=True):
        close(one, other)
    for one, other in zip(*map(jax.tree.leaves, (found[1], steps)), strict=True):
        close(one[:3], other[:3])  # before rounding can make another game of it


def close(one, other):
    assert one.dtype == other.dtype
    np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-3, atol=1e-3)


def test_the_agents_of_one_environment_end_their_episodes_together(played):
    env, _, _, steps = played
    for end in (steps.terminated, steps.truncated):
        agents = np.asarray(end).reshape(NUM_STEPS, NUM_ENVS, env.spec.num_agents)
        assert (agents == agents[..., :1]).all()


def test_all_numbers_are_finite(played):
    _, _, _, steps = played
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(steps))


def test_every_mask_allows_something_in_each_part(played):
    env, _, first, steps = played
    shown = [obs for obs in (first.obs, steps.obs, steps.final_obs) if isinstance(obs, dict)]
    for mask in [np.asarray(obs["action_mask"]) for obs in shown if "action_mask" in obs]:
        sizes = options(env.spec.action)
        assert mask.dtype == bool and mask.shape[-1] == sum(sizes)
        for part in np.split(mask, np.cumsum(sizes)[:-1], axis=-1):
            assert part.any(axis=-1).all()


def options(space):
    """The numbers of options of all discrete parts, in order."""
    if isinstance(space, Discrete):
        return [space.size]
    if isinstance(space, MultiDiscrete):
        return list(space.sizes)
    return [] if isinstance(space, Box) else [size for part in space for size in options(part)]


def test_it_can_be_made_to_play_one_episode_each(suite):
    config = suite.default_config()
    env, once = suite.make(config, NUM_ENVS), suite.make(config, NUM_ENVS, restarts=False)
    assert once.spec == env.spec
    forms = [jax.tree.map(lambda x: (x.shape, x.dtype), reset(env)) for env in (env, once)]
    assert forms[0] == forms[1]


def reset(env):
    """The first timestep, or its shapes where they are to be had without it."""
    key = jax.random.key(0)
    return (jax.eval_shape(env.reset, key) if env.spec.traceable else env.reset(key))[1]


@pytest.mark.parametrize("name", sorted(USERS))
def test_a_suite_of_users_environments_lists_none_and_asks_for_one(name):
    suite = find("envs", name)
    assert suite.names() == []
    with pytest.raises(ConfigError, match=r"^config.env.name='' [^\n]*$"):
        suite.make(suite.default_config(), NUM_ENVS)


def test_an_unknown_name_is_one_line_with_the_nearest(suite):
    config = suite.default_config()
    real = suite.names()[0]
    config.name = real + "x"
    with pytest.raises(ConfigError, match=f"did you mean '{real}'") as error:
        suite.make(config, NUM_ENVS)
    assert "\n" not in str(error.value)
