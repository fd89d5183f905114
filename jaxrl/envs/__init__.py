"""Environments: each file makes those of one suite; the wrappers are what they share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxrl.envs import transforms
from jaxrl.find import find
from jaxrl.types import ConfigError, Environment

# Files of this folder that are no suites.
HELPERS = (
    "check",
    "dlpack",
    "folding",
    "options",
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
    """What it takes to draw an environment with MuJoCo."""

    model: Any  # mujoco.MjModel
    qpos: Callable  # env_state of `make` -> [N, positions of the joints], in the model's order
    seconds: float  # that a step of the environment lasts


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


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of the suite that the config names.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: there is no such suite or environment, it lacks what it needs, or `masked` does not fit it.
    """
    env = find("envs", config.suite).make(config, num_envs, restarts)
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
    """How the environments of the config are drawn.

    Args:
        config: the group `env`.

    Raises:
        ConfigError: there is no such environment, or MuJoCo has no part in it.
    """
    suite = find("envs", config.suite)
    if not hasattr(suite, "scene"):
        raise ConfigError(
            f"config.env.suite={config.suite!r} cannot be drawn: its environments are not bodies that MuJoCo knows; "
            "play it without --html and --video."
        )
    return suite.scene(config)


def control(config: ConfigDict) -> Control:
    """The time and the limits of actions, as far as the suite tells them.

    Args:
        config: the group `env`.

    Raises:
        ConfigError: there is no such suite or environment, or it lacks what it needs.
    """
    suite = find("envs", config.suite)
    return suite.control(config) if hasattr(suite, "control") else Control()
