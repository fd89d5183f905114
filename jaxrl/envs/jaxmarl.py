"""JaxMARL's environments of several agents: the particles of MPE and the battles of SMAX.

Needs the extra [jaxmarl]; https://github.com/FLAIROX/JaxMARL. Each agent of an environment is a row: those of
environment e are rows e·A to e·A + A - 1. Where agents see less than others, zeros fill up their observations; where
they have fewer options, or some cannot be taken now, `action_mask` says so. What JaxMARL calls the state of the world
is `critic`. An agent that is out of the battle has `valid` False, shares its team's reward, and waits for the end.
A bounded action lies in [-1, 1] for the policy, what it samples beyond is clipped, and it is stretched to the bounds.
"""

import sys

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import folding
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Discrete, Environment

LIMITS = {"episode_length": (0, 10_000_000)}
CHOICES = {"actions": ("", "discrete", "continuous")}
SMAX = ("SMAX", "HeuristicEnemySMAX")  # both teams learn, or one plays by rules
MPE = "MPE_"
ODD = "MPE_simple_facmac"  # counts a prey that plays by rules among the agents, and does not let its clock be set


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "jaxmarl"
    config.name = "MPE_simple_spread_v3"
    config.scenario = ""  # who fights in SMAX, such as 3m or 2s3z; '' = five marines on each side
    config.actions = ""  # discrete or continuous, in MPE and SMAX; '' = as JaxMARL has it
    config.agent_id = False  # agents see who they are, one-hot: for a policy that plays several roles
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as JaxMARL has it
    return config


def names() -> list[str]:
    """The environments of JaxMARL that this suite offers."""
    known = _library().registered_envs
    return sorted(name for name in known if name in SMAX or (name.startswith(MPE) and not name.startswith(ODD)))


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of JaxMARL, as N·A rows for A agents.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: JaxMARL is missing, or has no such environment, scenario or kind of actions.
    """
    env, time_limit = _load(config)
    agents, num_agents = env.agents, len(env.agents)
    action, act, options = _actions([env.action_space(agent) for agent in agents])
    see = _views(env, options, config.agent_id)

    def reset(key):
        reset_key, episode_key = jax.random.split(key)
        obs, state = env.reset(jax.random.key_data(reset_key))
        # As raw numbers, for typed keys would not be shared out over devices.
        everyone = jnp.ones(num_agents, bool)
        return (state, everyone, jax.random.key_data(episode_key)), see(obs, state)

    def step(state, action):
        state, is_in, episode_key = state
        # One key for each step of an episode, which costs nothing where the environment does not use it.
        key = jax.random.fold_in(jax.random.wrap_key_data(episode_key), _inner(state).step)
        taken = {agent: act[i](action[i]) for i, agent in enumerate(agents)}
        obs, state, reward, done, _ = env.step_env(jax.random.key_data(key), state, taken)
        rewards = jnp.stack([jnp.asarray(reward[agent], jnp.float32) for agent in agents])
        joint = folding.Joint(see(obs, state), rewards, done["__all__"], is_in, {})
        return (state, ~jnp.stack([done[agent] for agent in agents]), episode_key), joint

    return folding.restarting(reset, step, num_envs, num_agents, action, time_limit, restarts)


def _library():
    known = sys.__stdout__, sys.__stderr__
    try:
        with quiet():
            # Where it loads Brax it ends the redirection, back to what Python calls the real streams.
            sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
            import jaxmarl
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='jaxmarl' cannot be imported ({error}); pip install 'jaxrl[jaxmarl]'."
        ) from error
    finally:
        sys.__stdout__, sys.__stderr__ = known
    return jaxmarl


def _load(config):
    """JaxMARL's environment, and its time limit."""
    library, name, options = _library(), config.name, {}
    if name not in names():
        raise ConfigError(f"config.env.name={name!r} is not in this suite; {nearest(name, names())}")
    if config.actions:
        options["action_type"] = config.actions if name in SMAX else config.actions.capitalize()
    if config.scenario:
        options["scenario"] = _scenario(name, config.scenario)
    time_limit = config.episode_length or library.make(name).max_steps
    # Its own clock must not strike before ours: that would be a termination.
    return library.make(name, max_steps=time_limit + 1, **options), time_limit


def _scenario(name, scenario):
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO as scenarios

    if name not in SMAX:
        raise ConfigError(f"config.env.scenario={scenario!r} is for {' and '.join(SMAX)}; set it to ''.")
    if scenario not in scenarios:
        raise ConfigError(f"config.env.scenario={scenario!r} is not in SMAX; {nearest(scenario, list(scenarios))}")
    return scenarios[scenario]


def _inner(state):
    """The state that knows the time: SMAX against rules keeps it within another."""
    return getattr(state, "state", state)


def _actions(spaces):
    """One agent's action space, large enough for all; functions from it to each agent's own; the options of each."""
    if hasattr(spaces[0], "n"):
        options = [int(space.n) for space in spaces]
        return Discrete(max(options)), [lambda x, n=n: jnp.minimum(x, n - 1) for n in options], options

    def stretch(space):
        low, high, size = space.low, space.high, space.shape[0]
        return lambda x: low + 0.5 * (jnp.clip(x[:size], -1.0, 1.0) + 1.0) * (high - low)

    return Box((max(space.shape[0] for space in spaces),)), [stretch(space) for space in spaces], None


def _views(env, options, shows_id):
    """The function from JaxMARL's observations and state to what the agents see, [A, ...].

    Args:
        env: JaxMARL's.
        options: the number of each agent's options; None if actions are continuous.
        shows_id: agents see who they are.
    """
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv

    has_critic = hasattr(env, "get_world_state")
    says_what_is_possible = type(env).get_avail_actions is not MultiAgentEnv.get_avail_actions
    has_mask = options is not None and (says_what_is_possible or len(set(options)) > 1)

    def stack(parts):
        size = max(part.shape[0] for part in parts)
        return jnp.stack([jnp.pad(part, (0, size - part.shape[0])) for part in parts])

    def see(obs, state):
        policy = stack([jnp.asarray(obs[agent], jnp.float32) for agent in env.agents])
        if shows_id:
            policy = jnp.concatenate([policy, jnp.eye(len(env.agents))], axis=1)
        parts = {"policy": policy}
        if has_critic:
            parts["critic"] = stack([jnp.asarray(env.get_world_state(state), jnp.float32)] * len(env.agents))
        if has_mask:
            possible = env.get_avail_actions(state) if says_what_is_possible else {}
            everything = {agent: jnp.ones(n, bool) for agent, n in zip(env.agents, options, strict=True)}
            parts["action_mask"] = stack([(everything | possible)[agent].astype(bool) for agent in env.agents])
        return parts if len(parts) > 1 else policy

    return see
