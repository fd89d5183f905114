"""What an export is checked on: observations that the policy met in its own environment, and random ones.

Letters in shapes: T steps, N episodes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs
from jaxrl.functional import normalize
from jaxrl.functional.distributions import option_sizes
from jaxrl.host.export.step import MASK, Step, observed
from jaxrl.types import ConfigError

STEPS = 200  # T
RANDOM = 5  # N of the random ones: 1,000 observations
RECORDED = 4  # N of the recorded ones, or so many times the agents


class Inputs(NamedTuple):
    """Observations in the order of the steps, for a policy with memory."""

    kind: str
    source: str
    obs: list[np.ndarray]  # [T, N, ...] of each input
    begins: np.ndarray  # [T, N] bool: the first of an episode

    @property
    def count(self) -> int:
        return self.begins.size


def record(step: Step, seed: int = 0) -> Inputs:
    """Plays the policy, deterministically, in the environment of its run.

    Raises:
        ConfigError: the environment cannot be made.
    """
    policy, config = step.policy, step.policy.config
    env = envs.make(config.env, RECORDED)
    num = env.spec.num_envs

    act = policy.algorithm.policy

    def after(begins, timestep):
        done = timestep.terminated | timestep.truncated
        return done | (begins & ~timestep.valid)

    def one_step(agent, play, _):
        carry, state, obs, begins = play
        action, carry = act(agent, carry, obs, begins)
        state, timestep = env.step(state, action)
        return (carry, state, timestep.obs, after(begins, timestep)), (obs, begins)

    def play(agent, key):
        state, first = env.reset(key)
        start = (policy.carry(num), state, first.obs, jnp.ones(num, bool))
        return jax.lax.scan(lambda play, _: one_step(agent, play, _), start, length=STEPS)[1]

    key = jax.random.key(seed)
    if env.spec.traceable:
        obs, begins = jax.jit(play)(policy.agent, key)
    else:
        obs, begins = _play_on_host(policy, env, jax.jit(act), after, key)
    leaves = [np.asarray(x, port.dtype) for x, port in zip(observed(obs).values(), step.inputs, strict=False)]
    return Inputs(
        "recorded", f"{num} x {STEPS} steps in {config.env.suite}/{config.env.name}", leaves, np.asarray(begins)
    )


def _play_on_host(policy, env, act, after, key):
    """The same, for an environment that lives on the host."""
    state, timestep = env.reset(key)
    carry, begins = policy.carry(env.spec.num_envs), np.ones(env.spec.num_envs, bool)
    seen, firsts = [], []
    for _ in range(STEPS):
        seen.append(jax.tree.map(np.array, timestep.obs))
        firsts.append(np.array(begins))
        action, carry = act(policy.agent, carry, timestep.obs, begins)
        state, timestep = env.step(state, action)
        begins = np.asarray(after(begins, timestep))
    return jax.tree.map(lambda *x: np.stack(x), *seen), np.stack(firsts)


def draw(step: Step, recorded: Inputs | None, seed: int = 0) -> Inputs:
    """Random observations with the moments that the policy's normaliser has, of what was recorded, or 0 and 1.

    Half of them are drawn three times as wide; images and options in all their range; each mask allows something.
    """
    random = np.random.default_rng(seed)
    moments = _moments(step)
    sizes = option_sizes(step.policy.spec.action)
    leaves = []
    for i, port in enumerate(step.inputs[: step.num_obs]):
        shape = (STEPS, RANDOM, *port.shape)
        seen = None if recorded is None else recorded.obs[i]
        if port.name == MASK:
            leaves.append(_masks(random, shape, sizes))
        elif port.dtype == "bool":
            leaves.append(random.random(shape) < 0.5)
        elif port.dtype == "float32":
            mean, std = moments.get(port.name) or _moments_of(seen)
            wide = np.where(random.random((STEPS, RANDOM)) < 0.5, 1.0, 3.0).reshape(
                STEPS, RANDOM, *[1] * len(port.shape)
            )
            leaves.append((mean + std * wide * random.normal(size=shape)).astype(np.float32))
        else:
            low, high = (0, 255) if port.dtype == "uint8" else (0, 1) if seen is None else (seen.min(), seen.max())
            leaves.append(random.integers(low, high, shape, endpoint=True).astype(port.dtype))
    begins = random.random((STEPS, RANDOM)) < 1 / 50
    begins[0] = True
    # Of the policies with memory one goes through all the steps without a break.
    begins[1:, 0] = False
    return Inputs("random", f"normal, with the normaliser's moments where it has any, seed {seed}", leaves, begins)


def _moments(step):
    """Mean and standard deviation by the name of an observation, if the agent follows them."""
    moments = getattr(step.policy.agent, "obs_moments", None)
    if not isinstance(moments, normalize.Moments) or float(moments.count[0]) == 0:
        return {}
    means, variances = observed_pairs(moments.mean, step), observed_pairs(moments.variance, step)
    return {name: (mean, np.sqrt(variances[name])) for name, mean in means.items()}


def observed_pairs(tree, step: Step) -> dict[str, np.ndarray]:
    """The high parts of a normaliser's numbers, by the name of the observation; none for what it leaves alone."""
    numbers = jax.tree.map(lambda _, pair: np.asarray(pair[0]) if pair else None, step.policy.spec.obs, tree)
    return observed(numbers)  # None is no leaf


def _moments_of(seen):
    if seen is None:
        return 0.0, 1.0
    return seen.mean((0, 1)), seen.std((0, 1))


def _masks(random, shape, sizes):
    """Masks of which each part allows an option at least."""
    allowed = random.random(shape) < 0.5
    start = 0
    for size in sizes:
        one = random.integers(0, size, shape[:-1])
        allowed[..., start : start + size] |= np.arange(size) == one[..., None]
        start += size
    return allowed


def for_check(step: Step) -> tuple[list[Inputs], str]:
    """The observations of a check, and why none were recorded, if none were."""
    try:
        recorded, why = record(step), ""
    except ConfigError as error:
        recorded, why = None, str(error)
    return [draw(step, recorded), *([recorded] if recorded else [])], why
