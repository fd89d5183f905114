"""How a learning rate moves: along the run (a factor of its progress) or after the policy's own step (adaptive KL)."""

import jax.numpy as jnp

from jaxrl.types import Array


def constant(progress: Array) -> Array:
    """1 throughout; progress: share of the run done, in [0, 1]."""
    return jnp.ones_like(progress)


def linear(progress: Array) -> Array:
    """From 1 at the start to 0 at the end; progress in [0, 1]."""
    return jnp.clip(1.0 - progress, 0.0, 1.0)


def cosine(progress: Array) -> Array:
    """½ (1 + cos(π progress)): from 1 to 0, flat at both ends; progress in [0, 1].

    Loshchilov & Hutter 2017, eq. 5, https://arxiv.org/abs/1608.03983.
    """
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))


DECAYS = {"constant": constant, "linear": linear, "cosine": cosine}


def adaptive_kl(
    learning_rate: Array,
    kl: Array,
    target_kl: float | Array,
    *,
    factor: float = 1.5,
    minimum: float = 1e-6,
    maximum: float = 1e-2,
) -> Array:
    """The rate after a step that moved the policy by `kl`: lower beyond twice the target, higher below half of it.

    rl_games' AdaptiveScheduler, rl_games/common/schedulers.py, https://github.com/Denys88/rl_games.

    Args:
        learning_rate: [] the rate now.
        kl: [] nats, how far the policy is from the one that collected the data.
        target_kl: nats, > 0.
        factor: what one decision divides or multiplies by.
        minimum, maximum: bounds of the result.
    """
    change = jnp.where(kl > 2.0 * target_kl, 1.0 / factor, jnp.where(kl < 0.5 * target_kl, factor, 1.0))
    return jnp.clip(learning_rate * change, minimum, maximum)


def unmoved(learning_rate: Array, kl: Array, target_kl: float | Array) -> Array:
    """The rate as it was."""
    del kl, target_kl
    return learning_rate


ADAPTATIONS = {"adaptive_kl": adaptive_kl}
