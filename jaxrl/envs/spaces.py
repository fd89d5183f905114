"""Actions of any space: drawn from it, their form, and as numbers that a network reads."""

import jax
import jax.numpy as jnp

from jaxrl.functional.distributions import option_sizes
from jaxrl.types import Array, Box, Discrete, Key, MultiDiscrete, PyTree, Space


def sample(space: Space, key: Key, num: int, mask: Array | None = None) -> PyTree:
    """Random actions, every one as likely, [N, ...].

    Args:
        space: of one action.
        key: of the draw.
        num: N.
        mask: [N, M] bool, True = allowed, M = all options of all discrete parts, in order; all are allowed by default.
    """
    if isinstance(space, Box):
        return jax.random.uniform(key, (num, *space.shape), minval=space.low, maxval=space.high)
    sizes = option_sizes(space)
    if mask is None:
        mask = jnp.ones((num, sum(sizes)), bool)
    if isinstance(space, Discrete):
        return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
    parts = [Discrete(size) for size in space.sizes] if isinstance(space, MultiDiscrete) else space
    drawn, start = [], 0
    for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True):
        size = sum(option_sizes(part))
        drawn.append(sample(part, part_key, num, mask[:, start : start + size]))
        start += size
    return jnp.stack(drawn, axis=1) if isinstance(space, MultiDiscrete) else tuple(drawn)


def example(space: Space, num_envs: int) -> PyTree:
    """The shapes and types of the actions of N environments, [N, ...]: of jax.ShapeDtypeStruct."""
    if isinstance(space, Box):
        return jax.ShapeDtypeStruct((num_envs, *space.shape), jnp.float32)
    if isinstance(space, Discrete):
        return jax.ShapeDtypeStruct((num_envs,), jnp.int32)
    if isinstance(space, MultiDiscrete):
        return jax.ShapeDtypeStruct((num_envs, len(space.sizes)), jnp.int32)
    return tuple(example(part, num_envs) for part in space)


def encode(space: Space, action: PyTree) -> Array:
    """Actions [N, ...] of any space as [N, F] float32: a Box's numbers within its bounds, options one-hot, in order."""
    if isinstance(space, Box):
        return jnp.clip(action, space.low, space.high).reshape(action.shape[0], -1)
    if isinstance(space, Discrete):
        return jax.nn.one_hot(action, space.size)
    if isinstance(space, MultiDiscrete):
        parts, actions = map(Discrete, space.sizes), jnp.moveaxis(action, 1, 0)
    else:
        parts, actions = space, action
    return jnp.concatenate([encode(part, taken) for part, taken in zip(parts, actions, strict=True)], axis=1)
