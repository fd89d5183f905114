"""Environments: each file makes those of one suite; the wrappers are what they share."""

from ml_collections import ConfigDict

from jaxrl.envs import wrappers
from jaxrl.find import find
from jaxrl.types import Environment

# Files of this folder that are no suites.
HELPERS = ("check", "dlpack", "folding", "spaces", "torch_contracts", "trajectory", "wrappers")
LIMITS = {"masked": (0, 10_000_000)}


def default_config() -> ConfigDict:
    """The keys of the group `env` that every suite has."""
    config = ConfigDict()
    config.masked = ()  # positions in the observation that are not shown, such as those of the velocities
    config.last_action = False  # observations also show the last action (last_action), for policies with memory
    config.last_reward = False  # and the last reward (last_reward)
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
    env = wrappers.hide(env, config.masked)
    return wrappers.remember_last(env, config.last_action, config.last_reward)
