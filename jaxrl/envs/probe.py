"""Probe environments: a few lines of dynamics whose values and best policies are known by heart.

They tell which part of an algorithm is wrong before any physics does, in seconds.

| name | what happens | what must be learned |
|---|---|---|
| constant | reward 1, then terminated | V = 1 |
| delayed | two steps, reward 1 at the second, then terminated | V = γ, then 1 |
| target | a target x in [-1, 1] is shown, reward -(a - x/2)², then terminated | a = x / 2 |
| arms | reward 1 for a > 0, else 0, then terminated | a > 0 |
| clock | reward 1 at each step until the clock, which is not shown, truncates | V = 1 / (1 - γ) at every step |
| fuse | reward 1 at each step, terminated at the third | V = 1 + γ + γ², 1 + γ, 1 |
| recall | a bit is shown, `delay` steps later it is asked for: 0 if right, else -2 | 0; without memory -1 |
| masked_arms | arm i of 4 pays i, 100 if the episode forbids it; metric `illegal` | the highest allowed: 34/15 |
| matching | two targets, of 3 and of 4, are shown; reward is the number of parts that match | 2 |
| mixture | x in [-1, 1] and k of 3 are shown, reward -(a - x/2)² + [option = k] | 1 |
| asymmetric | reward c = ±1 whatever is done; the critic sees c, the policy nothing | V = c; blind, an error of 1 |
| two_heads | three steps; the first head has reward 1 at each, the second 5 at the last | V = (1 + γ + γ², 5γ²), ... |
| image | one pixel of 8 x 8 is bright, reward 1 for naming its half (0 left, 1 right) | 1 |

From masked_arms on, an episode lasts one step where nothing else is said. Actions are one number in [-1, 1], clipped;
but recall, masked_arms and image take one option (recall: 0 for bit -1, 1 for bit 1), matching two, mixture a number
and an option.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import wrappers
from jaxrl.find import nearest
from jaxrl.types import Array, Box, ConfigError, Discrete, Environment, MultiDiscrete, PyTree, Space, Spec

LIMITS = {"episode_length": (1, 10_000_000), "delay": (0, 10_000_000)}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "probe"  # a file of jaxrl/envs, or a dotted import path
    config.name = "constant"  # a row of the table at the top of jaxrl/envs/probe.py
    config.episode_length = 8  # steps after which an episode is truncated
    config.delay = 3  # steps from the showing of recall's bit to the question
    return config


class Probe(NamedTuple):
    """The state of one probe."""

    step: Array  # [] int32 of the episode
    cause: PyTree  # what was drawn for the episode


class Rule(NamedTuple):
    """What a probe draws, shows, takes and pays."""

    draw: Callable  # key -> cause, for one episode
    show: Callable  # (step, cause) -> obs
    pay: Callable  # (step, cause, action) -> reward ([] or [H]), terminated: of the action at that step
    action: Space = Box((1,))
    num_value_heads: int = 1
    count: Callable = lambda cause, action: {}  # -> more metrics


def names() -> list[str]:
    """The probes there are."""
    return sorted(RULES)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N probes of one kind.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: there is no such probe, or its episode is cut off before its reward.
    """
    if config.name not in RULES:
        raise ConfigError(f"config.env.name={config.name!r} is not a probe; {nearest(config.name, names())}")
    rule = RULES[config.name](config)

    def reset(key):
        state = Probe(jnp.int32(0), rule.draw(key))
        return state, rule.show(*state)

    def step(state, action):
        reward, terminated = rule.pay(*state, action)
        reward = jnp.asarray(reward, jnp.float32)
        metrics = {"reward": jnp.sum(reward)} | rule.count(state.cause, action)
        state = state._replace(step=state.step + 1)
        return state, wrappers.Single(rule.show(*state), reward, jnp.asarray(terminated, bool), metrics)

    reset_all, step_all = wrappers.restarting(reset, step, num_envs, rule.action, config.episode_length, restarts)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    spec = Spec(num_envs, obs, rule.action, config.episode_length, num_value_heads=rule.num_value_heads)
    return Environment(reset_all, step_all, spec)


def timed(pay: Callable, num_value_heads: int = 1, shows_time: bool = True) -> Callable:
    """A rule that draws a number x in [-1, 1], shows the time and x, and takes a number in [-1, 1]."""

    def show(step, x):
        time = step.astype(jnp.float32) if shows_time else jnp.zeros(())
        return jnp.stack([time, x])

    def rule(config):
        pay_clipped = lambda step, x, action: pay(step, x, jnp.clip(action[0], -1.0, 1.0))  # noqa: E731
        return Rule(draw_number, show, pay_clipped, num_value_heads=num_value_heads)

    return rule


def recall(config: ConfigDict) -> Rule:
    """Obs: [the bit, ±1, at the first step, else 0; 1 at the step that asks, else 0]."""
    if config.delay >= config.episode_length:
        raise ConfigError(
            f"config.env.delay={config.delay} asks when the episode is over; "
            f"config.env.episode_length={config.delay + 1} is the shortest that is long enough."
        )

    def show(step, bit):
        return jnp.stack([jnp.where(step == 0, bit, 0.0), (step == config.delay).astype(jnp.float32)])

    def pay(step, bit, option):
        asks = step == config.delay
        return jnp.where(asks & ((option == 1) != (bit > 0)), -2.0, 0.0), asks

    return Rule(draw_bit, show, pay, Discrete(2))


def masked_arms(config: ConfigDict) -> Rule:
    """Obs: {policy: [0], action_mask: [4] bool}; each of the 15 masks that allow anything is as likely."""

    def draw(key):
        return (jax.random.randint(key, (), 1, 16) >> jnp.arange(4)) % 2 == 1

    def pay(step, allowed, option):
        return jnp.where(allowed[option], option, 100), True

    def count(allowed, option):
        return {"illegal": 1.0 - allowed[option].astype(jnp.float32)}

    show = lambda step, allowed: {"policy": jnp.zeros(1), "action_mask": allowed}  # noqa: E731
    return Rule(draw, show, pay, Discrete(4), count=count)


def matching(config: ConfigDict) -> Rule:
    """Obs: the first target as one of 3 ones, then the second as one of 4."""
    sizes = (3, 4)

    def show(step, targets):
        return jnp.concatenate([jax.nn.one_hot(targets[i], size) for i, size in enumerate(sizes)])

    draw = lambda key: jax.random.randint(key, (2,), 0, jnp.array(sizes))  # noqa: E731
    pay = lambda step, targets, options: (jnp.sum(options == targets), True)  # noqa: E731
    return Rule(draw, show, pay, MultiDiscrete(sizes))


def mixture(config: ConfigDict) -> Rule:
    """Obs: x, then k as one of 3 ones; action: (number [1], option)."""

    def draw(key):
        x_key, k_key = jax.random.split(key)
        return draw_number(x_key), jax.random.randint(k_key, (), 0, 3)

    def show(step, cause):
        x, k = cause
        return jnp.concatenate([x[None], jax.nn.one_hot(k, 3)])

    def pay(step, cause, action):
        (x, k), (number, option) = cause, action
        return -jnp.square(jnp.clip(number[0], -1.0, 1.0) - 0.5 * x) + (option == k), True

    return Rule(draw, show, pay, (Box((1,)), Discrete(3)))


def asymmetric(config: ConfigDict) -> Rule:
    """Obs: {policy: [0], critic: [c]}."""
    show = lambda step, c: {"policy": jnp.zeros(1), "critic": c[None]}  # noqa: E731
    return Rule(draw_bit, show, lambda step, c, action: (c, True))


def image(config: ConfigDict) -> Rule:
    """Obs: [8, 8, 1] uint8, rows first; one pixel is 255."""

    def show(step, place):
        return jnp.zeros((8, 8, 1), jnp.uint8).at[place[0], place[1], 0].set(255)

    def pay(step, place, option):
        return option == (place[1] >= 4), True

    return Rule(lambda key: jax.random.randint(key, (2,), 0, 8), show, pay, Discrete(2))


def draw_number(key):
    """[] uniform in [-1, 1]."""
    return jax.random.uniform(key, minval=-1.0, maxval=1.0)


def draw_bit(key):
    """[] -1 or 1, each as likely."""
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


# config -> Rule.
RULES = {
    "constant": timed(lambda step, x, action: (1.0, True)),
    "delayed": timed(lambda step, x, action: (step == 1, step == 1)),
    "target": timed(lambda step, x, action: (-jnp.square(action - 0.5 * x), True)),
    "arms": timed(lambda step, x, action: (action > 0.0, True)),
    "clock": timed(lambda step, x, action: (1.0, False), shows_time=False),
    "fuse": timed(lambda step, x, action: (1.0, step == 2)),
    "recall": recall,
    "masked_arms": masked_arms,
    "matching": matching,
    "mixture": mixture,
    "asymmetric": asymmetric,
    "two_heads": timed(lambda step, x, action: (jnp.stack([1.0, 5.0 * (step == 2)]), step == 2), num_value_heads=2),
    "image": image,
}
