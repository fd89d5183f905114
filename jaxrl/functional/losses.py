"""The terms of the PPO loss, one number for each step; the algorithm takes their means."""

import jax
import jax.numpy as jnp
import optax

from jaxrl.functional import extrema
from jaxrl.types import Array


def clipped_surrogate(log_ratio: Array, advantage: Array, clip: float | Array) -> Array:
    """-min(ρ A, clip(ρ, 1 ± ε) A), ρ = exp(log_ratio), which is -min(ρ A, A + ε |A|).

    Schulman et al. 2017, eq. 7, https://arxiv.org/abs/1707.06347; the second form has one bound of the two that can
    hold, https://spinningup.openai.com/en/latest/algorithms/ppo.html.

    Args:
        log_ratio: [...] log π(a|s) - log π_behaviour(a|s).
        advantage: [...].
        clip: ε > 0, the width of the trust region of the ratio.
    """
    return -extrema.smaller(_ratio(log_ratio) * advantage, advantage + clip * jnp.abs(advantage))


def smooth_surrogate(log_ratio: Array, advantage: Array, clip: float | Array) -> Array:
    """The clipped surrogate with a sigmoid in place of the corners: slope 1 at ρ = 1, never quite 0.

    s(ρ) = 1 - ε + 2ε sigmoid(4 ((ρ - 1 + ε) / 2ε - ½)); rl_games' `use_smooth_clamp`,
    rl_games/common/common_losses.py, https://github.com/Denys88/rl_games.
    """
    ratio = _ratio(log_ratio)
    smooth = 1 - clip + 2 * clip * jax.nn.sigmoid(4 * ((ratio - 1 + clip) / (2 * clip) - 0.5))
    return -extrema.smaller(ratio * advantage, smooth * advantage)


def _ratio(log_ratio: Array) -> Array:
    """exp, kept finite: beyond e⁸⁰ the surrogates are flat, but inf times their zero slope would be NaN."""
    return jnp.exp(extrema.smaller(log_ratio, 80.0))


def l2(error: Array) -> Array:
    """½ error²."""
    return 0.5 * jnp.square(error)


def smooth_l1(error: Array) -> Array:
    """½ error² up to |error| = 1, |error| - ½ beyond."""
    return optax.losses.huber_loss(error, delta=1.0)


SURROGATES = {"clip": clipped_surrogate, "smooth_clip": smooth_surrogate}
VALUE_LOSSES = {"l2": l2, "smooth_l1": smooth_l1}


def clipped_value(value: Array, old_value: Array, clip: float | Array) -> Array:
    """V_old + clip(V - V_old, ±ε): a value that may move by ε from the rollout's; ε in the units of the value."""
    return old_value + extrema.clip(value - old_value, -clip, clip)


def bound_loss(mean: Array, bound: float = 1.1) -> Array:
    """Σ max(|μ| - bound, 0)²: keeps the mean of a Gaussian policy near the action space [-1, 1].

    rl_games' `bounds_loss`, rl_games/algos_torch/a2c_continuous.py, https://github.com/Denys88/rl_games.

    Args:
        mean: [..., A].
        bound: distance from zero at which the loss begins.

    Returns:
        [...].
    """
    return jnp.sum(jnp.square(extrema.larger(jnp.abs(mean) - bound, 0.0)), axis=-1)


def regularisation_loss(mean: Array) -> Array:
    """Σ μ²: pulls the mean of a Gaussian policy to the middle of the action space.

    rl_games' `bound_loss_type: regularisation`, same file.

    Args:
        mean: [..., A].

    Returns:
        [...].
    """
    return jnp.sum(jnp.square(mean), axis=-1)


BOUND_LOSSES = {"bound": bound_loss, "regularisation": regularisation_loss}
