"""The terms of the PPO loss against float64 NumPy, their gradients against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import losses

CLIP = 0.2
# Ratios on both sides of the corners 0.8 and 1.2, with advantages of both signs.
RATIO = np.array([0.3, 0.7, 0.79, 0.81, 0.9, 1.0, 1.1, 1.19, 1.21, 1.5, 3.0] * 2)
ADVANTAGE = np.array([1.5] * 11 + [-0.7] * 11)
LOG_RATIO = np.log(RATIO).astype(np.float32)

# What rl_games' smooth clamp makes of a ratio at ε = 0.2, from a run of it.
SMOOTH_CLAMP = {
    0.5: 0.80268,
    0.8: 0.84768,
    0.9: 0.90758,
    1.0: 1.0,
    1.1: 1.09242,
    1.2: 1.15232,
    1.5: 1.19732,
    2.0: 1.19998,
}


def test_clipped_surrogate_is_equation_7():
    expected = [
        -min(ratio * advantage, min(max(ratio, 1 - CLIP), 1 + CLIP) * advantage)
        for ratio, advantage in zip(RATIO, ADVANTAGE, strict=True)
    ]
    np.testing.assert_allclose(losses.clipped_surrogate(LOG_RATIO, jnp.float32(ADVANTAGE), CLIP), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        # d loss / d log ρ = -ρ A where the minimum takes ρ A, 0 where it takes the clipped ratio.
        (1.0, 1.0, -1.0),
        (1.0, -1.0, 1.0),
        (1.5, 2.0, 0.0),  # good and already more likely: no further
        (1.5, -2.0, 3.0),  # bad and more likely: back
        (0.5, 2.0, -1.0),  # good and less likely: back
        (0.5, -2.0, 0.0),  # bad and already less likely: no further
        (1.1, 2.0, -2.2),
        (0.9, -2.0, 1.8),
    ],
)
def test_clipped_surrogate_pulls_only_towards_the_trust_region(ratio, advantage, expected):
    slope = jax.grad(losses.clipped_surrogate)(jnp.float32(np.log(ratio)), jnp.float32(advantage), CLIP)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


@pytest.mark.parametrize("ratio", list(SMOOTH_CLAMP))
def test_smooth_surrogate_clamps_as_rl_games_does(ratio):
    # Beyond 1 the clamped ratio is the smaller, so A = 1 shows it; before 1 the greater, and A = -1 does.
    sign = 1.0 if ratio >= 1 else -1.0
    loss = losses.smooth_surrogate(jnp.float32(np.log(ratio)), jnp.float32(sign), CLIP)
    np.testing.assert_allclose(-sign * loss, SMOOTH_CLAMP[ratio], atol=1e-5)


def test_smooth_surrogate_takes_the_worse_of_the_two():
    low, high = 1 - CLIP, 1 + CLIP
    smooth = low + (high - low) / (1 + np.exp(-4 * ((RATIO - low) / (high - low) - 0.5)))
    expected = np.maximum(-ADVANTAGE * RATIO, -ADVANTAGE * smooth)
    np.testing.assert_allclose(losses.smooth_surrogate(LOG_RATIO, jnp.float32(ADVANTAGE), CLIP), expected, rtol=1e-5)


def test_smooth_surrogate_has_slope_one_at_one_and_never_none():
    slope = jax.vmap(jax.grad(losses.smooth_surrogate), in_axes=(0, None, None))
    at = lambda *ratio: jnp.log(jnp.array(ratio))  # noqa: E731
    np.testing.assert_allclose(slope(at(1.0), 1.0, CLIP), -1.0, rtol=1e-5)
    assert np.all(slope(at(1.1, 1.3, 1.5, 2.0), 1.0, CLIP) < 0)
    assert np.all(slope(at(0.9, 0.7, 0.5, 0.3), -1.0, CLIP) > 0)


@pytest.mark.parametrize("surrogate", list(losses.SURROGATES.values()))
def test_surrogates_of_a_far_policy_stay_finite(surrogate):
    point = jnp.array([-50.0, -50.0, 50.0, 50.0]), jnp.array([1.0, -1.0, 1.0, -1.0])
    assert np.all(np.isfinite(surrogate(*point, CLIP)))
    assert np.all(np.isfinite(jax.vmap(jax.grad(surrogate), in_axes=(0, 0, None))(*point, CLIP)))


def test_value_losses():
    error = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0])
    np.testing.assert_allclose(losses.VALUE_LOSSES["l2"](jnp.float32(error)), error**2 / 2)
    # ½ e² up to 1, then |e| - ½: 2.5, ½, ⅛, 0, 1/32, ½, 1.5
    np.testing.assert_allclose(
        losses.VALUE_LOSSES["smooth_l1"](jnp.float32(error)), [2.5, 0.5, 0.125, 0.0, 0.03125, 0.5, 1.5]
    )


def test_clipped_value_moves_no_further_than_epsilon():
    value, old = jnp.array([1.0, 1.1, 1.5, 0.9, -4.0]), jnp.ones(5)
    np.testing.assert_allclose(losses.clipped_value(value, old, 0.25), [1.0, 1.1, 1.25, 0.9, 0.75], rtol=1e-6)
    np.testing.assert_allclose(losses.clipped_value(value, old, jnp.inf), value, rtol=1e-6)
    slope = jax.vmap(jax.grad(losses.clipped_value), in_axes=(0, 0, None))(value, old, 0.25)
    np.testing.assert_array_equal(slope, [1.0, 1.0, 0.0, 1.0, 0.0])


def test_bound_loss_begins_beyond_the_bound():
    mean = np.array([[0.0, 1.0, -1.1], [1.6, 0.0, 0.0], [-2.1, 3.1, 0.5]], np.float32)
    # 0;  0.5² = 0.25;  1² + 2² = 5
    np.testing.assert_allclose(losses.bound_loss(mean), [0.0, 0.25, 5.0], rtol=1e-5, atol=1e-12)
    # With bound 2: 0;  0;  0.1² + 1.1² = 1.22
    np.testing.assert_allclose(losses.bound_loss(mean, bound=2.0), [0.0, 0.0, 1.22], rtol=1e-5, atol=1e-12)
    slope = jax.grad(lambda mean: losses.bound_loss(mean).sum())(mean)
    np.testing.assert_allclose(slope, [[0, 0, 0], [1, 0, 0], [-2, 4, 0]], rtol=1e-5, atol=1e-6)


def test_regularisation_is_the_square_of_the_mean():
    mean = np.array([[0.0, 1.0, -1.1], [1.5, 0.0, 0.0]], np.float32)
    # 1 + 1.21;  2.25
    np.testing.assert_allclose(losses.regularisation_loss(mean), [2.21, 2.25], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda mean: losses.regularisation_loss(mean).sum())(mean), 2 * mean)


@pytest.mark.parametrize("bound_loss", list(losses.BOUND_LOSSES.values()))
def test_bound_losses_are_zero_where_nothing_is_gaussian(bound_loss):
    np.testing.assert_array_equal(bound_loss(jnp.zeros((4, 3, 0))), np.zeros((4, 3)))


def test_the_clip_may_be_a_traced_number():
    loss = jax.jit(losses.clipped_surrogate)(LOG_RATIO, jnp.float32(ADVANTAGE), jnp.float32(CLIP))
    expected = losses.clipped_surrogate(LOG_RATIO, jnp.float32(ADVANTAGE), CLIP)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def assert_gradients_are_pytorchs(ours, theirs, *arrays):
    """Values and gradients of `ours` (jax, float32) against those of `theirs` (PyTorch, float64)."""
    import torch

    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in arrays]
    value = theirs(*tensors)
    expected = torch.autograd.grad(value.sum(), tensors)
    arrays = [jnp.float32(x) for x in arrays]
    np.testing.assert_allclose(ours(*arrays), value.detach().numpy(), rtol=1e-4, atol=1e-6)
    actual = jax.grad(lambda *x: ours(*x).sum(), argnums=tuple(range(len(arrays))))(*arrays)
    for mine, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.torch
def test_clipped_surrogate_gradients_are_pytorchs():
    def theirs(log_ratio, advantage):
        import torch

        ratio = log_ratio.exp()
        return -torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)

    # At ρ = 1 the two branches tie and share the gradient; it comes out as one.
    ours = lambda log_ratio, advantage: losses.clipped_surrogate(log_ratio, advantage, CLIP)  # noqa: E731
    assert_gradients_are_pytorchs(ours, theirs, LOG_RATIO, ADVANTAGE)


@pytest.mark.torch
def test_smooth_surrogate_gradients_are_pytorchs():
    def theirs(log_ratio, advantage):
        import torch

        ratio, low, high = log_ratio.exp(), 1 - CLIP, 1 + CLIP
        smooth = low + (high - low) * torch.sigmoid(4 * ((ratio - low) / (high - low) - 0.5))
        return torch.max(-ratio * advantage, -smooth * advantage)

    ours = lambda log_ratio, advantage: losses.smooth_surrogate(log_ratio, advantage, CLIP)  # noqa: E731
    assert_gradients_are_pytorchs(ours, theirs, LOG_RATIO, ADVANTAGE)


@pytest.mark.torch
@pytest.mark.parametrize("name", list(losses.VALUE_LOSSES))
def test_clipped_value_loss_gradients_are_pytorchs(name):
    def ours(value, old_value, target):
        error = losses.VALUE_LOSSES[name]
        return jnp.maximum(error(value - target), error(losses.clipped_value(value, old_value, CLIP) - target))

    def theirs(value, old_value, target):
        import torch

        error = {"l2": torch.nn.functional.mse_loss, "smooth_l1": torch.nn.functional.smooth_l1_loss}[name]
        scale = {"l2": 0.5, "smooth_l1": 1.0}[name]
        clipped = old_value + (value - old_value).clamp(-CLIP, CLIP)
        return scale * torch.max(error(value, target, reduction="none"), error(clipped, target, reduction="none"))

    random = np.random.default_rng(0)
    assert_gradients_are_pytorchs(ours, theirs, *random.normal(size=(3, 64)).astype(np.float32))


@pytest.mark.torch
def test_bound_losses_gradients_are_pytorchs():
    theirs = lambda mean: ((mean - 1.1).clamp(min=0) ** 2 + (mean + 1.1).clamp(max=0) ** 2).sum(-1)  # noqa: E731
    mean = np.random.default_rng(1).normal(0, 2, (8, 3)).astype(np.float32)
    assert_gradients_are_pytorchs(losses.BOUND_LOSSES["bound"], theirs, mean)
    assert_gradients_are_pytorchs(losses.BOUND_LOSSES["regularisation"], lambda mean: (mean * mean).sum(-1), mean)
