"""Small numbers worked out by hand: advantages around a time-out, and a whole update of PPO with two parameters.

Letters in shapes: T steps, N environments.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.algorithms.ppo import agent, learning, parts
from jaxrl.functional import distributions, returns, values
from jaxrl.types import Box, Network, Rollout, Spec


@pytest.mark.parametrize(
    ("ends", "bootstrap", "expected"),
    [
        # γ = λ = ½, rewards 1, V = 2, 3, 4 and then 5. The last: δ₂ = 1 + ½·5 - 4 = -½ = A₂.
        # Truncated after the middle step with V(final) = 7: δ₁ = 1 + ½·7 - 3 = 1½ = A₁; δ₀ = 1 + ½·3 - 2 = ½,
        # A₀ = ½ + ¼·1½ = 0.875.
        ("truncated", 7.0, [0.875, 1.5, -0.5]),
        # With V of the step's own observation for it, rl_games' way: δ₁ = 1 + ½·3 - 3 = -½, A₀ = ½ - ¼·½ = 0.375.
        ("truncated", 3.0, [0.375, -0.5, -0.5]),
        # Terminated there: δ₁ = 1 - 3 = -2, A₀ = ½ - ¼·2 = 0.
        ("terminated", 7.0, [0.0, -2.0, -0.5]),
        # Not at all: δ₁ = 1 + ½·4 - 3 = 0, A₁ = 0 - ¼·½ = -0.125, A₀ = ½ - ¼·0.125 = 0.46875.
        ("", 7.0, [0.46875, -0.125, -0.5]),
    ],
)
def test_advantages_around_an_end(ends, bootstrap, expected):
    middle = jnp.array([[False], [True], [False]])
    truncated, terminated = middle & (ends == "truncated"), middle & (ends == "terminated")
    value = jnp.array([[2.0], [3.0], [4.0]])
    next_value = returns.next_values(value, jnp.array([5.0]), jnp.full((1, 1), bootstrap), truncated)
    done = truncated | terminated
    advantage = returns.gae(jnp.ones((3, 1)), value, next_value, terminated, done, gamma=0.5, lambda_=0.5)
    np.testing.assert_allclose(advantage[:, 0], expected, rtol=1e-6, atol=1e-7)


def two_numbers():
    """A network that sees nothing: a Gaussian of mean m and σ = 1, and a value v, both 0 at first."""

    def apply(params, carry, obs, reset):
        mean = jnp.broadcast_to(params["m"], (*reset.shape, 1))
        normal = distributions.Normal(mean, jnp.zeros_like(mean))
        return normal, value(params, carry, obs, reset), carry

    def value(params, carry, obs, reset):
        return values.Point(jnp.broadcast_to(params["v"], reset.shape))

    return Network(lambda key: {"m": jnp.zeros(()), "v": jnp.zeros(())}, lambda num: (), apply, value)


def test_two_passes_over_two_steps():
    overrides = {
        "ppo.num_envs": 2,
        "ppo.unroll_length": 1,
        "ppo.num_minibatches": 1,
        "ppo.update_epochs": 2,
        "ppo.learning_rate": 0.1,
        "ppo.normalize_obs": False,
        "ppo.normalize_value": False,
        "ppo.normalize_advantage": "no",
    }
    spec = Spec(2, jax.ShapeDtypeStruct((1,), jnp.float32), Box((1,)), truncation_interval=1)
    algorithm = agent.make(jaxrl.configure({}, overrides), spec)
    chosen = algorithm.update.args[0]._replace(network=two_numbers())
    state = agent.init(chosen, jax.random.key(0), algorithm.hyper)
    # Two episodes of one step, actions ½ and -1 from the mean 0, rewards 1 and 3: A = target = 1 and 3.
    sample, nothing, obs = jnp.array([[[0.5], [-1.0]]]), jnp.zeros((1, 2)), jnp.zeros((1, 2, 1))
    behaviour = distributions.Normal(jnp.zeros((1, 2, 1)), jnp.zeros((1, 2, 1)))
    no = jnp.zeros((1, 2), bool)
    rollout = Rollout(
        obs=obs,
        reset=~no,
        reward=jnp.array([[1.0, 3.0]]),
        terminated=~no,
        truncated=no,
        valid=~no,
        memo=parts.Memo(sample, behaviour.log_prob(sample), nothing, behaviour),
        carry=(),
        final_obs=obs,
        final_carry=(),
        last_obs=obs[0],
        last_carry=(),
        last_reset=~no[0],
    )
    state, metrics = jax.jit(functools.partial(learning.update, chosen))(state, rollout, jax.random.key(1))
    # First pass, ρ = 1. By m: -½ (1·½ + 3·(-1)) = 1.25. By v: ½ ((0 - 1) + (0 - 3)) = -2. Adam's first step is the sign
    # of the gradient: m = -0.1, v = 0.1.
    # Second pass. log ρ = ½ (a² - (a - m)²): ½ (0.25 - 0.36) = -0.055 and ½ (1 - 0.81) = 0.095, both within the clip:
    # ρ = 0.946485 and 1.099659. Policy loss -½ (0.946485 + 3·1.099659) = -2.122731; value loss ¼ (0.9² + 2.9²) = 2.305.
    np.testing.assert_allclose(metrics["loss/policy"], -2.122731, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss/value"], 2.305, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss/entropy"], 1.418939, rtol=1e-6)  # ½ (1 + log 2π)
    np.testing.assert_allclose(metrics["update/kl"], 0.005, rtol=1e-4)  # ½ m²
    # By m: -½ (0.946485·0.6 - 3·1.099659·0.9) = 1.200594. By v: ½ (-0.9 - 2.9) = -1.9. Norm √(1.441426 + 3.61).
    np.testing.assert_allclose(metrics["update/gradient_norm"], 2.247538, rtol=1e-6)
    # Scaled to norm 1, g₁ and g₂ are by m 0.529999 and 0.534182, by v -0.847998 and -0.845370. Adam, bias corrected:
    # (0.09 g₁ + 0.1 g₂) / 0.19 over the root of (0.999 g₁² + g₂²) / 1.999, for m 0.532200 / 0.532096 = 1.000197, for v
    # -0.846615 / 0.846684 = -0.999918.
    # optax corrects in float32, where 1 - 0.999² keeps four digits.
    np.testing.assert_allclose(state.params["m"], -0.1 - 0.1 * 1.000197, rtol=1e-5)
    np.testing.assert_allclose(state.params["v"], 0.1 + 0.1 * 0.999918, rtol=1e-5)
