"""Environments: each file makes those of one suite; the wrappers are what they share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jaxrl.envs import transforms, wrappers
from jaxrl.find import find
from jaxrl.types import ConfigError, Environment, PyTree

# Files of this folder that are no suites.
HELPERS = (
    "check",
    "child",
    "dlpack",
    "folding",
    "gymnasium_server",
    "gymnasium_workers",
    "mjx",
    "options",
    "quiet",
    "randomization",
    "spaces",
    "torch_client",
    "torch_contracts",
    "torch_server",
    "trajectory",
    "transforms",
    "wrappers",
)
CHOICES = {"obs_dtype": ("float32", "bfloat16", "float16")}
LIMITS = {"masked": (0, 10_000_000), "sticky_actions": (0.0, 1.0), "frame_stack": (1, 1000)}


class Scene(NamedTuple):
    """What it takes to draw the bodies of an environment with MuJoCo; a suite's file may offer scene(config)."""

    model: Any  # mujoco.MjModel; that of the episode under way, once `env` has been reset
    qpos: Callable  # env_state of `make` -> [N, positions of the joints], in the model's order
    seconds: float  # that a step of the environment lasts
    env: Environment | None = None  # N = 1, on the host: only this one can be drawn


class Camera(NamedTuple):
    """What it takes to draw an environment that is no bodies; a suite's file may offer camera(config)."""

    look: Callable  # (state, as the suite's `make` has it, obs) -> [height, width, 3] uint8, of the first environment
    seconds: float  # that a picture is shown
    env: Environment | None = None  # N = 1, on the host: only this one can be drawn


class Shown(NamedTuple):
    """What a suite's environment is and shows, before other views of it are made: the env_state within a `Stage`'s."""

    state: PyTree
    obs: PyTree  # [N, ...] the true one after the step, also where an episode ended


class Stage(NamedTuple):
    """One environment that is looked at while it is played."""

    env: Environment  # N = 1, or as many rows as it has agents, without restarts
    obs: PyTree  # of jax.ShapeDtypeStruct: what the suite shows
    channels: tuple[str, ...]  # names of what a grid in it has in its last axis; '' is not drawn; () = unknown
    scene: Scene | None
    camera: Camera | None


class Control(NamedTuple):
    """What a machine that takes the environment's place must know of its actions."""

    seconds: float | None = None  # from one action to the next; None where there is no such thing as time
    low: Any = None  # [A] the environment's own limits, which the policy's -1 and 1 stand for; None: -1 and 1 are those
    high: Any = None
    clips: bool = True  # the environment clips what lies outside of the bounds of its space


def default_config() -> ConfigDict:
    """The keys of the group `env` that every suite has."""
    config = ConfigDict()
    config.obs_keys = ()  # parts of a dict observation that are shown; () = all
    config.flatten = False  # observations are shown as one vector, their parts in the order of their names
    config.obs_dtype = "float32"  # of the numbers in observations; a rollout of half of it takes half the memory
    config.masked = ()  # positions in the observation that are not shown, such as those of the velocities
    config.last_action = False  # observations also show the last action (last_action), for policies with memory
    config.last_reward = False  # and the last reward (last_reward)
    config.show_time = False  # and the steps since the episode began (time)
    config.show_return = False  # and the sum of its rewards so far (return)
    config.frame_stack = 1  # observations that are shown as one, side by side along the last axis
    config.sticky_actions = 0.0  # probability that an action is the one before it again
    config.stagger = False  # the first episodes in training begin at random places of the clock; suites on device
    return config


def on_host(suite: str) -> bool:
    """Whether a suite's environments are stepped there; a user's own suite says so by TRACEABLE = False."""
    return not getattr(find("envs", suite), "TRACEABLE", True)


def make(config: ConfigDict, num_envs: int, restarts: bool | str = True) -> Environment:
    """N environments of the suite that the config names.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation; wrappers.TOLD leaves it to `wrappers.renewal` to draw
            the initial states of the next episodes, as training does.

    Raises:
        ConfigError: there is no such suite or environment, it lacks what it needs, or `masked` does not fit it.
    """
    return _view(find("envs", config.suite).make(config, num_envs, restarts), config, restarts)


def _view(env: Environment, config: ConfigDict, restarts: bool | str) -> Environment:
    """A suite's environment as the keys of every suite change it."""
    if config.stagger and restarts:
        env = transforms.stagger(env)
    env = transforms.stick_actions(env, config.sticky_actions)
    env = transforms.keep(env, config.obs_keys)
    if config.flatten:
        env = transforms.flatten(env)
    env = transforms.hide(env, config.masked)
    env = transforms.stack_frames(env, config.frame_stack)
    env = transforms.remember_last(env, config.last_action, config.last_reward)
    if config.show_time:
        env = transforms.show_time(env)
    if config.show_return:
        env = transforms.show_return(env)
    return transforms.cast(env, config.obs_dtype)


def scene(config: ConfigDict) -> Scene:
    """How the bodies of the config's environments are drawn.

    Args:
        config: the group `env`.

    Raises:
        ConfigError: there is no such environment, or it has no bodies.
    """
    found = _offer(config, "scene")
    if found is None:
        raise ConfigError(
            f"config.env.suite={config.suite!r} cannot be drawn: {config.name} is not bodies that MuJoCo knows; Brax, "
            "Playground, the DM Control Suite and MuJoCo's tasks in gymnasium are."
        )
    return found


def control(config: ConfigDict) -> Control:
    """The time and the limits of actions, as far as the suite tells them.

    Args:
        config: the group `env`.

    Raises:
        ConfigError: there is no such suite or environment, or it lacks what it needs.
    """
    suite = find("envs", config.suite)
    return suite.control(config) if hasattr(suite, "control") else Control()


def stage(config: ConfigDict) -> Stage:
    """One environment of the config, and all that its suite offers to look at it.

    Args:
        config: the group `env`.

    Raises:
        ConfigError: as `make`.
    """
    found = _offer(config, "scene")
    camera = None if found else _offer(config, "camera")
    env = (found or camera).env if found or camera else None
    env = env or find("envs", config.suite).make(config, 1, False)
    channels = _offer(config, "channels") or ()
    return Stage(_view(_look_on(env), config, False), env.spec.obs, channels, found, camera)


def shown(env_state: PyTree) -> Shown:
    """What the suite's environment is and shows; env_state is of a `Stage`'s environment."""
    is_shown = lambda x: isinstance(x, Shown)  # noqa: E731
    [found] = filter(is_shown, jax.tree.leaves(env_state, is_leaf=is_shown))
    return found


def _look_on(env: Environment) -> Environment:
    """The same environment, whose env_state is a `Shown`."""

    def reset(key):
        state, timestep = wrappers.begin(env, key)
        return Shown(state, timestep.obs), timestep

    def step(shown, action):
        state, timestep = env.step(shown.state, action)
        return Shown(state, timestep.final_obs), timestep

    return Environment(reset, step, env.spec)


def _offer(config, name):
    """What the function of that name in a suite's file says of the config; None if it has none."""
    function = getattr(find("envs", config.suite), name, None)
    return function(config) if function else None
