"""EnvPool's environments, simulated on the host by threads of C++: Atari, MuJoCo and many more.

Needs the extra [envpool]; https://envpool.readthedocs.io. Only environments with one player. Spaces become ours as in
`gymnasium.py`; of images (uint8) the axis of the channels, which is the shortest, comes last.

EnvPool restarts in the step after an end, whatever the action. So that step is not `valid`, and the observation that
comes with an end is the true last one. A task that ends in the very step of the time limit counts as truncated.

Evaluation plays whole games with their own score, whatever is learned from: without `episodic_life` and `reward_clip`,
options that EnvPool has for Atari. If ppo.reward_bounds clips instead, the return of training is the score as well.

Letters in shapes: N environments, M options of an action, C channels, H height, W width.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import gymnasium, options
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import ConfigError, Discrete, Environment, PyTree, Space, Spec, Timestep

TRACEABLE = False  # reset and step, which live on the host
LIMITS = {"episode_length": (0, 10_000_000), "num_threads": (0, 4096)}
EXAMPLE = "frame_skip=4"  # of an option, for messages
# Options that we give ourselves.
OURS = ("num_envs", "batch_size", "num_threads", "seed", "env_seed", "max_episode_steps", "gym_reset_return_info")
# The parts of EnvPool that keep the time limit that they are told, and truncate by nothing else.
CLOCKED = ("atari", "box2d", "classic_control", "minigrid", "mujoco", "vizdoom")
# Options that make an episode or a reward another one than the game's.
FOR_LEARNING = ("episodic_life", "reward_clip")


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "envpool"
    config.name = "HalfCheetah-v5"
    config.options = ()  # of EnvPool for that environment, such as frame_skip=4,img_height=42
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as EnvPool has it
    config.num_threads = 0  # that simulate; 0 = one for each core
    return config


def names() -> list[str]:
    """The environments that EnvPool has registered, also those with several players."""
    return sorted(_library().list_all_envs())


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of EnvPool.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays whole games with their own score; they restart themselves all the same.

    Raises:
        ConfigError: EnvPool is missing, has no such environment or option or cannot make it, or it has several players
            or spaces that are not among ours.
    """
    library, given = _library(), _options(config, num_envs)
    known, acts, shows = _know(config, given)
    if not restarts:
        given |= {name: False for name in FOR_LEARNING if name in known._fields}
    space, act = gymnasium.action_space(config.name, acts)
    see = _observations(config.name, shows, space)
    envs = ended = None

    def reset(key):
        nonlocal envs, ended
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        with quiet():  # they take a seed as they are made, and never again; 0.1 s for each of Atari's
            envs = library.make_gymnasium(config.name, seed=seed, **given)
            obs, ended = see(envs.reset()[0]), np.zeros(num_envs, bool)
        return (), Timestep(obs, np.zeros(num_envs, np.float32), ended, ended, obs, {}, ~ended)

    def step(state, action):
        nonlocal ended
        obs, reward, terminated, truncated, _ = envs.step(act(action))
        obs, valid, ended = see(obs), ~ended, terminated | truncated
        return state, Timestep(obs, reward.astype(np.float32), terminated, truncated, obs, {}, valid)

    blank = see(gymnasium.library().vector.utils.create_empty_array(shows, n=1))
    shown = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), blank)
    limit = max(1, known.max_episode_steps) if _is_clocked(config.name) else 1
    return Environment(reset, step, Spec(num_envs, shown, space, limit, traceable=TRACEABLE))


def _library():
    try:
        with quiet():
            import envpool
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='envpool' cannot be imported ({error}); pip install 'jaxrl[envpool]'."
        ) from error
    return envpool


def _options(config, num_envs) -> dict[str, Any]:
    """What EnvPool is told, but for the seed."""
    given = options.parse(config.options, EXAMPLE) | {"num_envs": num_envs}
    if config.episode_length:
        given["max_episode_steps"] = config.episode_length
    if config.num_threads:
        given["num_threads"] = min(config.num_threads, num_envs)
    return given


def _know(config, given):
    """What EnvPool knows of the environment before it makes it: its options, its actions' space, its observations'."""
    library, setting = _library(), f"config.env.name={config.name!r}"
    if config.name not in library.list_all_envs():
        raise ConfigError(f"{setting} is not in EnvPool; {nearest(config.name, names())}")
    try:
        with quiet():
            theirs = [name for name in library.make_spec(config.name).config._fields if name not in OURS]
            wrong = [name for name in options.parse(config.options, EXAMPLE) if name not in theirs]
            spec = None if wrong else library.make_spec(config.name, **given)
            spaces = None if wrong else (spec.gymnasium_action_space, spec.gymnasium_observation_space)
    except Exception as mistake:  # whatever it lacks, or an option of another type
        cause = " ".join(str(mistake).split())
        raise ConfigError(
            f"{setting} cannot be made ({cause}); correct config.env.options, or install what it lacks."
        ) from mistake
    if wrong:
        raise ConfigError(f"config.env.options={wrong[0]!r} is no option of {config.name}; {nearest(wrong[0], theirs)}")
    if config.episode_length and not _is_clocked(config.name):
        raise ConfigError(
            f"config.env.episode_length={config.episode_length} is not kept by {config.name}; leave it at 0."
        )
    if spec.config.max_num_players > 1:
        raise ConfigError(f"{setting} has several players, which cannot be trained here; choose one with one player.")
    return spec.config, *spaces


def _is_clocked(name):
    """Whether the environment keeps the time limit that it is told."""
    return _library().registration.registry.specs[name][0].split(".")[1] in CLOCKED  # envpool.mujoco.gym


def _observations(name, theirs, action: Space) -> Callable[[PyTree], PyTree]:
    """The function from EnvPool's observations [N, ...] to what the policy sees, in memory of its own."""
    spaces = gymnasium.library().spaces
    if isinstance(theirs, spaces.Dict):
        parts = {key: _observations(name, part, action) for key, part in theirs.spaces.items()}
        if "action_mask" in parts and isinstance(action, Discrete):
            parts["action_mask"] = lambda mask: np.asarray(mask, bool).reshape(-1, action.size)
        return lambda obs: {key: see(obs[key]) for key, see in parts.items()}
    if isinstance(theirs, spaces.Box) and theirs.dtype == np.uint8 and len(theirs.shape) == 3:
        channels, *size = theirs.shape
        if channels < min(size):
            return lambda obs: np.moveaxis(obs, 1, -1).copy()  # [N, C, H, W] -> [N, H, W, C]
    return gymnasium.observations(name, theirs)
