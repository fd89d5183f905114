"""Probe environments: a few lines of dynamics whose values and best policies are known by heart.

They tell which part of an algorithm is wrong before any physics does, in seconds. Actions are one number in [-1, 1].

| name | what happens | what must be learned |
|---|---|---|
| constant | reward 1, then terminated | V = 1 |
| delayed | two steps, reward 1 at the second, then terminated | V = γ, then 1 |
| target | a target x in [-1, 1] is shown, reward -(a - x/2)², then terminated | a = x / 2 |
| arms | reward 1 for a > 0, else 0, then terminated | a > 0 |
| clock | reward 1 at each step until the clock, which is not shown, truncates | V = 1 / (1 - γ) at every step |
| fuse | reward 1 at each step, terminated at the third | V = 1 + γ + γ², 1 + γ, 1 |
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import wrappers
from jaxrl.find import nearest
from jaxrl.types import Array, Box, ConfigError, Environment, Spec

LIMITS = {"episode_length": (1, 10_000_000)}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "probe"
    config.name = "constant"  # constant, delayed, target, arms, clock, fuse
    config.episode_length = 8  # steps after which an episode is truncated
    return config


class Probe(NamedTuple):
    """The state of one probe."""

    step: Array  # [] int32 of the episode
    target: Array  # [] in [-1, 1]


def names() -> list[str]:
    """The probes there are."""
    return sorted(RULES)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N probes of one kind; config is the group `env`.

    Raises:
        ConfigError: there is no such probe.
    """
    if config.name not in RULES:
        raise ConfigError(f"config.env.name={config.name!r} is not a probe; {nearest(config.name, names())}.")
    rule = RULES[config.name]

    def observe(state: Probe) -> Array:
        time = 0.0 if config.name == "clock" else state.step.astype(jnp.float32)
        return jnp.stack([time + jnp.zeros(()), state.target])

    def reset(key):
        state = Probe(jnp.int32(0), jax.random.uniform(key, minval=-1.0, maxval=1.0))
        return state, observe(state)

    def step(state, action):
        reward, terminated = rule(state, jnp.clip(action[0], -1.0, 1.0))
        state = state._replace(step=state.step + 1)
        reward = jnp.asarray(reward, jnp.float32)
        return state, wrappers.Single(observe(state), reward, jnp.asarray(terminated, bool), {"reward": reward})

    reset, step = wrappers.restarting(reset, step, num_envs, Box((1,)), config.episode_length, restarts)
    obs = jax.ShapeDtypeStruct((2,), jnp.float32)
    return Environment(reset, step, Spec(num_envs, obs, Box((1,)), config.episode_length))


# (state before the step, action) -> reward, terminated.
RULES = {
    "constant": lambda state, action: (1.0, True),
    "delayed": lambda state, action: (state.step == 1, state.step == 1),
    "target": lambda state, action: (-jnp.square(action - 0.5 * state.target), True),
    "arms": lambda state, action: (action > 0.0, True),
    "clock": lambda state, action: (1.0, False),
    "fuse": lambda state, action: (1.0, state.step == 2),
}
