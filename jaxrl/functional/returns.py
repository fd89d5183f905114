"""Advantages and value targets from rewards and values."""

import jax
import jax.numpy as jnp

from jaxrl.functional import masked, normalize
from jaxrl.types import Array


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    done: Array,
    *,
    gamma: float | Array,
    lambda_: float | Array,
) -> Array:
    """Generalised advantage estimates.

      δₜ = rₜ + γ (1 - terminatedₜ) V(sₜ₊₁) - V(sₜ)
      Aₜ = δₜ + γ λ (1 - doneₜ) Aₜ₊₁

    Schulman et al. 2016, eq. 16, https://arxiv.org/abs/1506.02438.

    Args:
        reward: [T, N], or [T, N, H] with H value heads, each of which is worth its own rewards.
        value: [T, N] or [T, N, H], V(sₜ).
        next_value: the same of V(sₜ₊₁); of the final observation where an episode ended.
        terminated: [T, N] bool, nothing is worth anything after step t.
        done: [T, N] bool, steps t and t+1 are of different episodes.
        gamma: discount per environment step, in [0, 1]; [], or [H] one for each head.
        lambda_: 0 is one-step TD, 1 is Monte Carlo.

    Returns:
        [T, N] or [T, N, H] advantages; add `value` for the value targets.
    """
    terminated, done = masked.across(terminated, value), masked.across(done, value)
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * lambda_ * jnp.where(done, 0.0, jnp.ones_like(value))

    def accumulate(later, now):
        delta, decay = now
        advantage = delta + decay * later
        return advantage, advantage

    # A few fused steps an iteration: the body is two operations, so the loop itself would cost more than its work. Not
    # more of them, for the compiler writes n steps out n²/2 times.
    _, advantage = jax.lax.scan(accumulate, jnp.zeros_like(value[0]), (delta, decay), reverse=True, unroll=4)
    return advantage


def next_values(value: Array, last_value: Array, final_value: Array, truncated: Array) -> Array:
    """V(sₜ₊₁) of every step, exact at truncation.

    Args:
        value: [T, N] or [T, N, H], V(sₜ).
        last_value: [N] or [N, H], V of the observation after the last step.
        final_value: [K, N] or [K, N, H], V of the last observation of the episode truncated within each T/K steps.
        truncated: [T, N] bool.

    Returns:
        Like `value`, the value of the final observation where an episode was truncated and of the next observation
        elsewhere (of a new episode after a termination, where `gae` does not look at it).
    """
    following = jnp.concatenate([value[1:], last_value[None]])
    final_value = jnp.repeat(final_value, value.shape[0] // final_value.shape[0], axis=0)
    return jnp.where(masked.across(truncated, value), final_value, following)


def weigh(advantage: Array, weights: Array) -> Array:
    """[T, N] from [T, N, H]: the sum over the heads, each with its weight [H]; [T, N] is taken as of one head."""
    return jnp.sum(advantage.reshape(*advantage.shape[:2], -1) * weights[None, None], axis=-1)


def explained_variance(value: Array, target: Array, valid: Array | None = None) -> Array:
    """1 - Var[target - value] / Var[target]: 1 is a perfect critic, 0 one that knows the mean alone.

    With H value heads, variances are about the mean of each and summed over all.

    Args:
        value: [T, N] or [T, N, H].
        target: the same.
        valid: [T, N] bool, which of them count; all by default.
    """
    valid = jnp.ones(value.shape[:2], bool) if valid is None else valid
    # The normaliser of values measures the targets too, which the compiler does once for both.
    error, whole = (jnp.mean(normalize.measure(x, valid).variance[0]) for x in (target - value, target))
    return 1.0 - error / jnp.maximum(whole, 1e-8)
