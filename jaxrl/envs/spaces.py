"""Actions drawn from a space."""

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
