"""What learning sees of a reward; what is reported stays as the environment gave it."""

import jax.numpy as jnp

from jaxrl.types import Array


def shape(reward: Array, *, scale: float, shift: float, bounds: tuple[float, ...], log: bool) -> Array:
    """clip((r + shift) · scale, *bounds), and its logarithm if `log`; the same shape.

    rl_games' `reward_shaper`, rl_games/common/tr_helpers.py, https://github.com/Denys88/rl_games.

    Args:
        reward: [...].
        scale, shift: factor and summand; the summand comes first.
        bounds: (low, high) of the result before the logarithm, in scaled units; () = none.
        log: takes the natural logarithm at the end; `low` must then be > 0.
    """
    reward = jnp.clip((reward + shift) * scale, *bounds)
    return jnp.log(reward) if log else reward
