"""gymnax's environments: classic control, MinAtar, bsuite and others; https://github.com/RobertTLange/gymnax.

Needs the extra [gymnax]. Observations are float32 whatever gymnax calls them, MinAtar's images of 0 and 1 among them:
uint8 would pass for the brightness of pixels and be divided by 255, and float32 can be normalised, or not. A number
that stands for one of n states is shown as one of n ones. A bounded action lies in [-1, 1] for the policy, what it
samples beyond is clipped, and it is stretched to the bounds of the environment here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import Control, wrappers
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Discrete, Environment, Spec

LIMITS = {"episode_length": (0, 10_000_000)}
# Of the images of MinAtar, in the order of their last axis; https://github.com/kenjyoung/MinAtar, `channels` of each.
CHANNELS = {
    "Asterix-MinAtar": ("player", "enemy", "trail", "gold"),
    "Breakout-MinAtar": ("paddle", "ball", "trail", "brick"),
    "Freeway-MinAtar": ("chicken", "car", *(f"speed {speed}" for speed in range(1, 6))),
    "Seaquest-MinAtar": (
        *("submarine", "its back", "own bullet", "trail", "enemy bullet"),
        *("fish", "enemy submarine", "oxygen", "divers aboard", "diver"),
    ),
    "SpaceInvaders-MinAtar": ("cannon", "", "alien, going left", "alien, going right", "own bullet", "enemy bullet"),
}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "gymnax"
    config.name = "CartPole-v1"
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as gymnax has it
    return config


def names() -> list[str]:
    """The environments that gymnax offers, also those that were registered with it."""
    return sorted(_library().registered_envs)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of gymnax.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: gymnax is missing or too old, has no such environment, or cannot make it.
    """
    env, params = _load(config.name)
    own_limit = params.max_steps_in_episode
    time_limit = config.episode_length or int(own_limit)
    # gymnax's `step_env` leaves the clock to its caller, but a few environments show how much of it is over.
    params = params.replace(max_steps_in_episode=type(own_limit)(time_limit))
    space, act = _action(config.name, env.action_space(params))
    see = _observation(env.observation_space(params))

    def reset(key):
        reset_key, episode_key = jax.random.split(key)
        obs, state = env.reset_env(reset_key, params)
        # As raw numbers, for typed keys would not be shared out over devices.
        return (state, jax.random.key_data(episode_key)), see(obs)

    def step(state, action):
        state, episode_key = state
        # One key for each step of an episode, which costs nothing where the environment does not use it.
        key = jax.random.fold_in(jax.random.wrap_key_data(episode_key), jnp.asarray(state.time, jnp.uint32))
        obs, state, reward, terminated, _ = env.step_env(key, state, act(action), params)
        reward, terminated = jnp.asarray(reward, jnp.float32), jnp.asarray(terminated, bool)
        return (state, episode_key), wrappers.Single(see(obs), reward, terminated, {})

    reset_all, step_all = wrappers.restarting(reset, step, num_envs, space, time_limit, restarts)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return Environment(reset_all, step_all, Spec(num_envs, obs, space, time_limit, all_valid=True))


def channels(config: ConfigDict) -> tuple[str, ...]:
    """The names of what stands in the cells of MinAtar's games."""
    return CHANNELS.get(config.name, ())


def control(config: ConfigDict) -> Control:
    """The limits of actions that are numbers; gymnax does not say how long an action lasts."""
    env, params = _load(config.name)
    theirs = env.action_space(params)
    if not hasattr(theirs, "low"):
        return Control()
    return Control(None, *(np.broadcast_to(np.float32(bound), theirs.shape) for bound in (theirs.low, theirs.high)))


def _library():
    try:
        import gymnax
        import gymnax.environments.environment
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='gymnax' cannot be imported ({error}); pip install 'jaxrl[gymnax]'."
        ) from error
    if not hasattr(gymnax.environments.environment.Environment, "is_truncated"):
        raise ConfigError(
            "config.env.suite='gymnax' needs gymnax 1.0 or newer, which tells the time limit from the end of the task; "
            "pip install --upgrade 'jaxrl[gymnax]'."
        )
    return gymnax


def _load(name):
    """gymnax's environment of that name and its parameters."""
    if name not in _library().registered_envs:
        raise ConfigError(f"config.env.name={name!r} is not in gymnax; {nearest(name, names())}")
    try:
        return _library().make(name)
    except OSError as error:  # it could not download its data
        raise ConfigError(f"config.env.name={name!r} cannot be made ({error}); choose another.") from error


def _action(name, theirs):
    """The policy's action space, and the function from it to gymnax's."""
    from gymnax.environments import spaces

    if isinstance(theirs, spaces.Discrete):
        return Discrete(int(theirs.n)), lambda action: action
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), theirs.shape) for bound in (theirs.low, theirs.high))
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ConfigError(f"config.env.name={name!r} has actions without bounds; register it with bounds in gymnax.")
    return Box(tuple(theirs.shape)), lambda action: low + 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0) * (high - low)


def _observation(theirs):
    """The function from gymnax's observation to what the policy sees."""
    from gymnax.environments import spaces

    if isinstance(theirs, spaces.Discrete):
        return lambda obs: jax.nn.one_hot(obs, theirs.n)
    return lambda obs: jnp.asarray(obs, jnp.float32)
