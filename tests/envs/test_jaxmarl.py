"""JaxMARL's environments with their agents in rows; checked against its own step by the same keys and actions."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import jaxmarl as suite
from jaxrl.envs.spaces import example
from jaxrl.types import Box, ConfigError, Discrete

NUM_ENVS = 4


def make(name, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, NUM_ENVS)


def play(env, act, num_steps):
    """The first timestep, then the states before each step, the actions and the timesteps after it, [T, N·A]."""

    @jax.jit
    def run(key):
        reset_key, key = jax.random.split(key)
        state, first = env.reset(reset_key)
        keys = jax.random.split(key, num_steps)

        def step(carry, key):
            state, obs = carry
            action = act(key, obs)
            after, timestep = env.step(state, action)
            return (after, timestep.obs), (state.state, action, timestep)

        return first, *jax.lax.scan(step, (state, first.obs), keys)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def anything(env):
    def act(key, obs):
        if isinstance(env.spec.action, Box):
            return 1.5 * jax.random.normal(key, (env.spec.num_envs, *env.spec.action.shape))
        mask = obs["action_mask"] if isinstance(obs, dict) else jnp.ones((env.spec.num_envs, env.spec.action.size))
        return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf))

    return act


def by_agent(env, x):
    """[T, N·A, ...] -> [T, N, A, ...]."""
    return x.reshape(x.shape[0], -1, env.spec.num_agents, *x.shape[2:])


def theirs(library_env, states, actions, act=lambda agent, action: action):
    """JaxMARL's own steps from the same states, by the same keys and actions [T, N, A, ...]."""
    states, _, episode_keys = states

    def step(state, episode_key, action):
        time = getattr(state, "state", state).step
        key = jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(episode_key), time))
        taken = {agent: act(agent, action[i]) for i, agent in enumerate(library_env.agents)}
        obs, state, reward, done, _ = library_env.step_env(key, state, taken)
        return obs, state, reward, done

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(step)))(states, episode_keys, actions))


@pytest.fixture(scope="module")
def battle():
    """Three marines that stand still against three that shoot: the library's environment, ours, and what happened."""
    library = suite._library()
    from jaxmarl.environments.smax import map_name_to_scenario

    env = make("HeuristicEnemySMAX", scenario="3m")
    stand_still = jnp.full(env.spec.num_envs, 4)
    own = library.make("HeuristicEnemySMAX", scenario=map_name_to_scenario("3m"))
    return own, env, *play(env, lambda key, obs: stand_still, 60)


def test_without_jaxmarl_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxmarl", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[jaxmarl\]'[^\n]*$"):
        make("MPE_simple_spread_v3")


@pytest.mark.jaxmarl
def test_particles_move_as_jaxmarls_agent_by_agent_in_rows_until_the_clock_truncates_them():
    env, own = make("MPE_simple_spread_v3"), suite._library().make("MPE_simple_spread_v3")
    assert env.spec.num_agents == 3 and env.spec.num_envs == 12 and env.spec.action == Discrete(5)
    first, states, action, steps = play(env, anything(env), 55)
    obs, _, reward, _ = theirs(own, states, by_agent(env, action))
    shown, paid = by_agent(env, steps.final_obs), by_agent(env, steps.reward)
    for i, agent in enumerate(own.agents):
        np.testing.assert_allclose(shown[:, :, i], obs[agent], atol=1e-5)
        np.testing.assert_allclose(paid[:, :, i], reward[agent], atol=1e-5)
    # Where an agent is when it has moved for 0.1 s: it sees its velocity, then its position.
    np.testing.assert_allclose(steps.obs[0, :, 2:4], first.obs[:, 2:4] + 0.1 * first.obs[:, :2], atol=1e-6)
    ends = np.array([24, 49])
    np.testing.assert_array_equal(steps.truncated, np.isin(np.arange(55), ends)[:, None] & np.ones(12, bool))
    assert not steps.terminated.any() and steps.valid.all()
    assert np.abs(steps.obs[ends, :, :2]).max() == 0 and np.abs(steps.final_obs[ends, :, :2]).max() > 0  # velocities


@pytest.mark.jaxmarl
def test_actions_are_stretched_to_the_bounds_and_a_longer_clock_is_not_cut_short_by_jaxmarls():
    env = make("MPE_simple_spread_v3", actions="continuous", episode_length=30)
    own = suite._library().make("MPE_simple_spread_v3", action_type="Continuous")
    assert env.spec.action == Box((5,))
    _, states, action, steps = play(env, anything(env), 32)
    obs, *_ = theirs(own, states, by_agent(env, (np.clip(action, -1, 1) + 1) / 2))  # theirs lie in [0, 1]
    np.testing.assert_allclose(by_agent(env, steps.final_obs)[:, :, 1], obs["agent_1"], atol=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated.all(axis=1)), [29])
    assert steps.truncated.sum() == 12 and not steps.terminated.any()


@pytest.mark.jaxmarl
def test_who_sees_less_sees_zeros_and_who_can_do_less_has_it_masked():
    env, own = (
        make("MPE_simple_speaker_listener_v4", agent_id=True),
        suite._library().make("MPE_simple_speaker_listener_v4"),
    )
    speaker, listener = (own.observation_space(agent).shape[0] for agent in own.agents)
    assert (speaker, listener) == (3, 11) and env.spec.obs["policy"].shape == (11 + 2,)
    state, first = jax.jit(env.reset)(jax.random.key(0))
    obs = jax.jit(jax.vmap(own.get_obs))(state.state[0])
    shown = first.obs["policy"].reshape(NUM_ENVS, 2, 13)
    np.testing.assert_allclose(shown[:, 0, :3], obs[own.agents[0]], atol=1e-6)
    np.testing.assert_allclose(shown[:, 1, :11], obs[own.agents[1]], atol=1e-6)
    assert not shown[:, 0, 3:11].any() and shown[:, 1, :11].any()
    np.testing.assert_array_equal(shown[..., 11:], np.broadcast_to(np.eye(2), (NUM_ENVS, 2, 2)))
    mask = np.array([[True] * 3 + [False] * 2, [True] * 5])
    np.testing.assert_array_equal(first.obs["action_mask"], np.tile(mask, (NUM_ENVS, 1)))


@pytest.mark.jaxmarl
def test_a_battle_goes_as_jaxmarls_to_its_last_observation(battle):
    own, env, _, states, action, steps = battle
    obs, after, reward, done = theirs(own, states, by_agent(env, action))
    shown = by_agent(env, steps.final_obs["policy"])
    for i, agent in enumerate(own.agents):
        np.testing.assert_allclose(shown[:, :, i], obs[agent], atol=1e-5)
        np.testing.assert_allclose(by_agent(env, steps.reward)[:, :, i], reward[agent], atol=1e-5)
        possible = jax.vmap(jax.vmap(own.get_avail_actions))(after)[agent]
        np.testing.assert_array_equal(by_agent(env, steps.final_obs["action_mask"])[:, :, i], possible)
        np.testing.assert_allclose(by_agent(env, steps.final_obs["critic"])[:, :, i], obs["world_state"], atol=1e-4)
        np.testing.assert_array_equal(by_agent(env, steps.terminated)[:, :, i], done["__all__"])
    assert steps.terminated.any() and not steps.truncated.any()


@pytest.mark.jaxmarl
def test_who_is_out_of_the_battle_is_not_valid_and_can_only_wait_for_the_end(battle):
    _, env, first, states, _, steps = battle
    alive = states[0].state.unit_alive[..., :3]  # before each step
    np.testing.assert_array_equal(by_agent(env, steps.valid), alive)
    assert not alive.all() and first.valid.all()
    ended = np.flatnonzero(steps.terminated[:-1, 0])[0]
    assert steps.valid[ended + 1, :3].all()  # all are back
    masks = by_agent(env, steps.obs["action_mask"])[:-1][~alive[1:]]
    assert len(masks) > 10
    np.testing.assert_array_equal(masks, np.tile(np.arange(8) == 4, (len(masks), 1)))  # stand still


@pytest.mark.jaxmarl
@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "SMAX", "scenario": "2s3x"}, "config.env.scenario='2s3x' is not in SMAX; did you mean '2s3z'"),
        ({"name": "MPE_simple_v3", "scenario": "3m"}, "config.env.scenario='3m' is for SMAX and HeuristicEnemySMAX"),
        ({"name": "overcooked"}, "config.env.name='overcooked' is not in this suite; choose one of HeuristicEnemySMAX"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_cure(options, message):
    with pytest.raises(ConfigError) as error:
        make(**options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.jaxmarl
def test_loading_it_leaves_pythons_streams_alone_and_prints_nothing(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "jaxmarl"]:
        monkeypatch.delitem(sys.modules, name)
    streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    suite._library()
    assert streams == (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    assert capsys.readouterr() == ("", "")


@pytest.mark.jaxmarl
@pytest.mark.parametrize("actions", [pytest.param("", marks=pytest.mark.slow), "discrete", "continuous"])
def test_every_environment_keeps_the_types_of_its_state_and_observation(actions):
    assert len(suite.names()) >= 10
    for name in suite.names():
        env = make(name, actions=actions)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, env.spec.num_envs))
        assert again == state and timestep == first, name
