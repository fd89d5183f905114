"""Craftax and Craftax-Classic, open-ended worlds to survive, dig and craft in; https://github.com/MichaelTMatthews/Craftax.

Needs the extra [craftax]. Symbolic observations are one float32 vector, pixels float32 [H, W, 3] in [0, 1]. The game's
own limit of time, 10,000 steps in Classic and 100,000 in Craftax, which it takes for the end of the task, is put off:
our clock truncates, and what still ends has terminated (death, lava, or the last boss beaten). The metrics are the
achievements, each 1 in the step that unlocks it.
"""

import importlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import Camera, wrappers
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import ConfigError, Discrete, Environment, Spec

LIMITS = {"episode_length": (0, 10_000_000)}
NEVER = LIMITS["episode_length"][1] + 1  # steps
PERIOD = 512  # steps between fresh worlds; a world costs as much to make as about 24 steps in it
NAMES = ("Craftax-Classic-Pixels-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Pixels-v1", "Craftax-Symbolic-v1")


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "craftax"
    config.name = "Craftax-Classic-Symbolic-v1"
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as Craftax has it
    return config


def names() -> list[str]:
    """The environments that Craftax offers."""
    return list(NAMES)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of Craftax.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: Craftax is missing, or has no such environment.
    """
    env, achievements = _load(config.name)
    params = env.default_params
    time_limit = config.episode_length or params.max_timesteps
    params = params.replace(max_timesteps=NEVER)

    def reset(key):
        # Raw keys, for Craftax keeps one in its state, and typed keys could not be shared out over devices.
        reset_key, episode_key = jax.random.key_data(jax.random.split(key))
        with quiet():
            obs, state = env.reset_env(reset_key, params)
        return (state, episode_key), jnp.asarray(obs, jnp.float32)

    def step(state, action):
        before, episode_key = state
        step_key = jax.random.fold_in(episode_key, before.timestep)
        with quiet():
            obs, after, reward, terminated, _ = env.step_env(step_key, before, action, params)
        unlocked = (after.achievements & ~before.achievements).astype(jnp.float32)
        metrics = {f"achievement/{name.lower()}": unlocked[i] for name, i in achievements}
        reward, terminated = jnp.asarray(reward, jnp.float32), jnp.asarray(terminated, bool)
        return (after, episode_key), wrappers.Single(jnp.asarray(obs, jnp.float32), reward, terminated, metrics)

    space = Discrete(env.num_actions)
    reset_all, step_all = wrappers.restarting(reset, step, num_envs, space, time_limit, restarts, PERIOD)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return Environment(reset_all, step_all, Spec(num_envs, obs, space, time_limit, all_valid=True))


def camera(config: ConfigDict) -> Camera:
    """What the player sees, as the game draws it for people."""
    _load(config.name)
    is_classic = "Classic" in config.name
    folder = "craftax_classic" if is_classic else "craftax"
    with quiet():
        renderer = importlib.import_module(f"craftax.{folder}.renderer")
        sizes = importlib.import_module(f"craftax.{folder}.constants")
        render = renderer.make_craftax_pixel_renderer(sizes.BLOCK_PIXEL_SIZE_IMG)

    def look(state, obs):
        after, _ = jax.tree.map(lambda x: x[0], state.state)
        with quiet():
            return jnp.clip(render(after), 0, 255).astype(jnp.uint8)

    return Camera(look, 0.1)


def _load(name):
    """Craftax's environment of that name, without restarts of its own, and its achievements, [(name, position)]."""
    try:
        with quiet():
            from craftax import craftax_env
            from craftax.craftax import constants
            from craftax.craftax_classic import constants as classic_constants
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='craftax' cannot be imported ({error}); pip install 'jaxrl[craftax]'."
        ) from error
    if name not in NAMES:
        raise ConfigError(f"config.env.name={name!r} is not in Craftax; {nearest(name, names())}")
    with quiet():
        env = craftax_env.make_craftax_env_from_name(name, auto_reset=False)
    all_of_them = (classic_constants if "Classic" in name else constants).Achievement
    return env, [(achievement.name, achievement.value) for achievement in all_of_them]
