"""Gymnasium's environments, on the host, many at a time; https://gymnasium.farama.org.

Needs the extra [gymnasium]. A bounded action lies in [-1, 1] for the policy, what it samples beyond is clipped, and it
is stretched to the bounds of the environment here. A number that stands for one of n states is shown as one of n ones;
images of bytes stay uint8, other numbers become float32.

They are stepped one after the other, by as many processes at once as there are cores; what comes out is the same to the
bit as from one. `config.env.vectorization=sync` keeps them in this process, as debuggers and environments that look at
what else there is in it want it; then, and where they are few, nothing is started.

Letters in shapes: N environments.
"""

import importlib
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import Camera, Control, Scene, gymnasium_server, gymnasium_workers
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Discrete, Environment, MultiDiscrete, PyTree, Spec, Timestep

TRACEABLE = False  # reset and step, which live on the host
LIMITS = {"episode_length": (0, 10_000_000), "pixels": (0, 4096), "num_workers": (0, 4096)}
CHOICES = {"vectorization": ("workers", "sync", "async"), "autoreset": ("same_step", "next_step")}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "gymnasium"
    config.name = "CartPole-v1"  # as gymnasium.make takes it; 'your_module:Name-v0' imports your module first
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as the environment has it
    config.pixels = 0  # side of the square image, uint8 [pixels, pixels, 3], of what it renders; 0 = its observation
    config.vectorization = "workers"  # processes with a share of them each; sync: in this process; async: one for each
    config.num_workers = 0  # processes of vectorization=workers; 0 = one a core, if that gives each 16 environments
    config.autoreset = (
        "same_step"  # where a new episode begins: same_step as the end, or next_step, which nobody learns from
    )
    return config


def names() -> list[str]:
    """The environments that gymnasium has registered."""
    return sorted(library().registry)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of gymnasium.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: not used: they restart themselves.

    Raises:
        ConfigError: gymnasium is missing, has no such environment or cannot make it, or its spaces are not among ours.
    """
    del restarts
    num_workers = gymnasium_workers.number(config.num_workers, num_envs) if config.vectorization == "workers" else 1
    envs = _load(config, num_envs if num_workers == 1 else 1)
    if num_workers == 1:
        return _build(config, envs, num_envs, gymnasium_server.Here(envs))
    envs.close()  # it has told its spaces
    setting = f"config.env.name={config.name!r} in a process of its own (config.env.vectorization=sync: in this one)"
    return _build(config, envs, num_envs, gymnasium_workers.Workers(_made(config), num_envs, num_workers, setting))


def scene(config: ConfigDict) -> Scene | None:
    """How it is drawn, if MuJoCo simulates it: the one environment that comes with it."""
    config = _in_this_process(config)
    envs = _load(config, 1)
    theirs = envs.envs[0].unwrapped
    if not (hasattr(theirs, "data") and type(getattr(theirs, "model", None)).__name__ == "MjModel"):
        return None
    return Scene(theirs.model, lambda env_state: theirs.data.qpos[None].copy(), float(theirs.dt), _alone(config, envs))


def camera(config: ConfigDict) -> Camera | None:
    """What it renders itself, if it does: the one environment that comes with it."""
    config, gymnasium = _in_this_process(config), library()
    rendered = _load(config, 1, render_mode="rgb_array")
    if "rgb_array" not in rendered.metadata.get("render_modes", ()):
        return None

    def look(state, obs):
        try:
            return np.asarray(rendered.render()[0], np.uint8)
        except (ImportError, gymnasium.error.Error) as error:
            cause = " ".join(str(error).split())
            raise ConfigError(f"config.env.name={config.name!r} cannot be drawn ({cause})") from error

    return Camera(look, 1.0 / rendered.metadata.get("render_fps", 30), _alone(config, rendered))


def _in_this_process(config):
    """The same config for one environment that can be looked into."""
    config = config.copy_and_resolve_references()
    config.vectorization = "sync"
    return config


def _alone(config, envs) -> Environment:
    return _build(config, envs, 1, gymnasium_server.Here(envs))


def _build(config, envs, num_envs, vector) -> Environment:
    """Ours, of N environments that are stepped by `vector`; `envs` are gymnasium's, as many as there are, or one."""
    space, act = action_space(config.name, envs.single_action_space)
    see = observations(config.name, envs.single_observation_space)
    limit = config.episode_length or envs.spec.max_episode_steps or 1
    at_once = config.autoreset == "same_step"  # else those that ended begin anew in the next step, whatever the action
    everyone = np.ones(num_envs, bool)
    ended = ~everyone  # in the step before

    def reset(key):
        nonlocal ended
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        obs, ended = see(vector.reset(seed)), ~everyone
        return (), Timestep(obs, np.zeros(num_envs, np.float32), ~everyone, ~everyone, obs, {}, everyone)

    def step(state, action):
        nonlocal ended
        obs, reward, terminated, truncated, final = vector.step(act(action))
        obs = see(obs)
        final = obs if final is None else see(final)
        valid = everyone if at_once else ~ended
        ended = terminated | truncated
        # An environment may say both; a task that has ended is worth nothing more.
        return state, Timestep(obs, np.float32(reward), terminated, truncated & ~terminated, final, {}, valid)

    shown = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), see(envs.observation_space.sample()))
    return Environment(reset, step, Spec(num_envs, shown, space, limit, traceable=TRACEABLE, all_valid=at_once))


def control(config: ConfigDict) -> Control:
    """The time that an action lasts, where the environment has an attribute `dt`, and the limits of a bounded Box."""
    config = config.copy_and_resolve_references()
    config.vectorization, config.pixels = "sync", 0  # one that can be looked into, and need not be drawn
    envs = _load(config, 1)
    theirs, seconds = envs.single_action_space, getattr(envs.envs[0].unwrapped, "dt", None)
    envs.close()
    seconds = float(seconds) if isinstance(seconds, float | int | np.floating) else None
    if not isinstance(theirs, library().spaces.Box):
        return Control(seconds)
    return Control(seconds, theirs.low.astype(np.float32), theirs.high.astype(np.float32))


def library():
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='gymnasium' cannot be imported ({error}); pip install 'jaxrl[gymnasium]'."
        ) from error
    return gymnasium


def _load(config, num_envs, **options):
    """gymnasium's vector environment."""
    gymnasium = library()
    module, _, name = config.name.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        if name not in gymnasium.registry:
            raise ConfigError(f"config.env.name={config.name!r} is not in gymnasium; {nearest(name, names())}")
        return gymnasium_server.load(_made(config)._replace(**options), num_envs)
    except (ImportError, gymnasium.error.Error) as error:  # what it needs is not installed
        cause = " ".join(str(error).split())
        raise ConfigError(
            f"config.env.name={config.name!r} cannot be made ({cause}); pip install what it needs."
        ) from error
    except Exception as error:  # a renderer may fail in any way
        if not config.pixels:
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"config.env.pixels={config.pixels} cannot be rendered ({cause}); "
            "MuJoCo needs MUJOCO_GL=egl in the process's environment where there is no display."
        ) from error


def _made(config):
    """What an environment of the config is made of, once its module has been imported."""
    spec = library().registry[config.name.rpartition(":")[2]]
    # One that shares itself out is, in each of the places, in that process.
    vectorization = "async" if config.vectorization == "async" else "sync"
    return gymnasium_server.Made(spec, vectorization, config.autoreset, config.episode_length, config.pixels)


def action_space(name, theirs):
    """The policy's action space, and the function from its actions [N, ...] to gymnasium's."""
    spaces = library().spaces
    if isinstance(theirs, spaces.Discrete):
        return Discrete(int(theirs.n)), lambda action: np.asarray(action) + theirs.start
    if isinstance(theirs, spaces.MultiDiscrete) and theirs.nvec.ndim == 1:
        return MultiDiscrete(tuple(map(int, theirs.nvec))), lambda action: np.asarray(action) + theirs.start
    if isinstance(theirs, spaces.MultiBinary) and len(theirs.shape) == 1:
        return MultiDiscrete((2,) * theirs.shape[0]), lambda action: np.asarray(action, theirs.dtype)
    if isinstance(theirs, spaces.Box) and theirs.is_bounded() and theirs.dtype.kind == "f":
        low, high = theirs.low.astype(np.float32), theirs.high.astype(np.float32)
        stretch = lambda action: low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (high - low)  # noqa: E731
        return Box(theirs.shape), lambda action: stretch(np.asarray(action)).astype(theirs.dtype)
    raise ConfigError(
        f"config.env.name={name!r} takes {theirs}, which is no bounded Box, Discrete, MultiDiscrete or MultiBinary; "
        "wrap it in one of these and register that."
    )


def observations(name, theirs) -> Callable[[PyTree], PyTree]:
    """The function from gymnasium's observations [N, ...] to what the policy sees."""
    spaces = library().spaces
    if isinstance(theirs, spaces.Dict):
        parts = {key: observations(name, part) for key, part in theirs.spaces.items()}
        return lambda obs: {key: see(obs[key]) for key, see in parts.items()}
    if isinstance(theirs, spaces.Discrete):
        options = np.arange(theirs.start, theirs.start + theirs.n)
        return lambda obs: (np.asarray(obs)[:, None] == options).astype(np.float32)
    if isinstance(theirs, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete):
        dtype = np.uint8 if theirs.dtype == np.uint8 and len(theirs.shape) == 3 else np.float32
        return lambda obs: np.asarray(obs).astype(dtype)
    raise ConfigError(
        f"config.env.name={name!r} shows {theirs}, which is no Box, Discrete, MultiDiscrete, MultiBinary or Dict of "
        "these; wrap it with gymnasium.wrappers.FlattenObservation and register that."
    )
