"""Gaussian distributions against closed forms and fine grids in float64, their gradients against PyTorch.

Letters in shapes: B batch, A action size.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import distributions
from jaxrl.functional.distributions import Normal, TanhNormal

BOTH = [Normal, TanhNormal]


def parameters(seed, shape=(5, 3)):
    """Means and log-stds of some Gaussians, [B, A] float32."""
    random = np.random.default_rng(seed)
    return random.normal(0, 1, shape).astype(np.float32), random.uniform(-2, 0.7, shape).astype(np.float32)


def log_density(x, mean, log_std):
    """log N(x; μ, σ), float64."""
    x, mean, std = np.float64(x), np.float64(mean), np.exp(np.float64(log_std))
    return np.log(np.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi)))


def log_slope(x):
    """log(d tanh(x) / dx) = -2 log cosh(x), float64; the hyperbolic cosine overflows only beyond 700."""
    return -2 * np.log(np.cosh(np.float64(x)))


def expectation(function, mean, std, width=12.0, points=40_001):
    """E[function(x)], x ~ N(μ, σ), on a fine grid; float64. The trapezoid rule is exact here to 1e-12."""
    z = np.linspace(-width, width, points)
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    return np.sum(weight * function(mean + std * z))


def tanh_entropy(mean, std):
    """H of tanh(x), x ~ N(μ, σ): E[-log p]; float64, on a grid."""
    return math.log(std) + 0.5 * math.log(2 * math.pi * math.e) + expectation(log_slope, mean, std)


def test_normal_log_prob_is_the_closed_form():
    (mean, log_std), (sample, _) = parameters(0), parameters(1)
    actual = Normal(mean, log_std).log_prob(sample)
    np.testing.assert_allclose(actual, log_density(sample, mean, log_std).sum(-1), rtol=1e-5, atol=1e-5)


def test_normal_entropy_is_the_mean_of_minus_log_prob():
    mean, log_std = parameters(2)
    expected = [
        sum(
            expectation(lambda x, m=m, s=s: -log_density(x, m, s), m, math.exp(s))
            for m, s in zip(row_mean, row_log_std, strict=True)
        )
        for row_mean, row_log_std in zip(np.float64(mean), np.float64(log_std), strict=True)
    ]
    np.testing.assert_allclose(Normal(mean, log_std).entropy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_kl_is_the_mean_log_ratio(kind):
    (mean, log_std), (other_mean, other_log_std) = parameters(3, (4, 1)), parameters(4, (4, 1))
    actual = kind(mean, log_std).kl(kind(other_mean, other_log_std))
    expected = []
    for m1, s1, m2, s2 in np.float64(np.concatenate([mean, log_std, other_mean, other_log_std], axis=1)):
        log_ratio = lambda x, m1=m1, s1=s1, m2=m2, s2=s2: (  # noqa: E731
            -((x - m1) ** 2) / (2 * np.exp(2 * s1)) + (x - m2) ** 2 / (2 * np.exp(2 * s2)) + s2 - s1
        )
        expected.append(expectation(log_ratio, m1, np.exp(s1)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_kl_is_summed_over_actions_and_kept_apart_in_the_batch():
    (mean, log_std), (other_mean, other_log_std) = parameters(5), parameters(6)
    whole = Normal(mean, log_std).kl(Normal(other_mean, other_log_std))
    std, other_std = np.exp(np.float64(log_std)), np.exp(np.float64(other_log_std))
    each = np.log(other_std / std) + (std**2 + (np.float64(mean) - other_mean) ** 2) / (2 * other_std**2) - 0.5
    np.testing.assert_allclose(whole, each.sum(-1), rtol=1e-5, atol=1e-5)


def test_squashing_does_not_change_the_kl():
    # ∫ p log(p/q) over the action a in (-1, 1), p and q the densities of tanh(x): N(artanh a) / (1 - a²).
    m1, s1, m2, s2 = 0.3, -0.7, -0.2, -0.4
    edge = np.linspace(-1, 1, 400_001)
    action = (edge[1:] + edge[:-1]) / 2
    sample = np.arctanh(action)
    p = np.exp(log_density(sample, m1, s1)) / (1 - action**2)
    log_ratio = log_density(sample, m1, s1) - log_density(sample, m2, s2)
    expected = np.sum(np.where(p > 0, p * log_ratio, 0)) * (edge[1] - edge[0])
    actual = TanhNormal(jnp.array([m1]), jnp.array([s1])).kl(TanhNormal(jnp.array([m2]), jnp.array([s2])))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_kl_of_nearly_the_same_keeps_its_digits():
    # log(σ₂/σ₁) = -r: KL = ½ (e²ʳ - 1) - r = r² + O(r³), here 1e-8; float32 sees 6e-8 beside 1.
    near = Normal(jnp.zeros(1), jnp.full(1, 1e-4)).kl(Normal(jnp.zeros(1), jnp.zeros(1)))
    np.testing.assert_allclose(near, 1e-8, rtol=1e-2)
    same = Normal(*parameters(7))
    np.testing.assert_array_equal(same.kl(same), 0.0)


def test_tanh_log_prob_is_the_density_of_the_action():
    (mean, log_std), (sample, _) = parameters(8), parameters(9)
    actual = TanhNormal(mean, log_std).log_prob(sample)
    expected = (log_density(sample, mean, log_std) - log_slope(sample)).sum(-1)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.5), (0.3, -0.7), (-1.0, -0.5)])
def test_tanh_density_integrates_to_one(mean, log_std):
    edge = np.linspace(-1, 1, 200_001)
    action = (edge[1:] + edge[:-1]) / 2
    sample = jnp.asarray(np.arctanh(action), jnp.float32)[:, None]
    there = lambda number: jnp.full_like(sample, number)  # noqa: E731
    density = np.exp(np.float64(TanhNormal(there(mean), there(log_std)).log_prob(sample)))
    np.testing.assert_allclose(density.sum() * (edge[1] - edge[0]), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("stds", "error"),
    [([0.01, 0.1, 0.3, 1.0], 1e-5), ([1.5, 2.0], 2e-4), ([3.0, 4.0], 2e-2), ([6.0, math.exp(2)], 0.1)],
)
def test_tanh_entropy_is_as_exact_as_it_says(stds, error):
    mean, std = np.meshgrid(np.linspace(-8, 8, 33), stds)
    actual = jax.jit(lambda mean, log_std: TanhNormal(mean, log_std).entropy())(
        jnp.asarray(mean, jnp.float32)[..., None], jnp.asarray(np.log(std), jnp.float32)[..., None]
    )
    expected = np.vectorize(tanh_entropy)(mean, std)
    np.testing.assert_allclose(actual, expected, atol=error, rtol=0)


def test_tanh_entropy_sums_over_actions():
    mean, log_std = parameters(10)
    each = np.vectorize(tanh_entropy)(np.float64(mean), np.exp(np.float64(log_std)))
    np.testing.assert_allclose(TanhNormal(mean, log_std).entropy(), each.sum(-1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", BOTH)
def test_samples_have_the_moments_of_the_gaussian_and_are_drawn_apart(kind):
    number = 50_000
    mean, log_std = jnp.array([0.5, -2.0]), jnp.array([-1.0, 0.5])
    spread = lambda x: jnp.tile(x[None], (number, 1))  # noqa: E731
    sample = np.float64(kind(spread(mean), spread(log_std)).sample(jax.random.key(0)))
    error = np.exp(log_std) / np.sqrt(number)  # of the mean; of the standard deviation, 1/√2 of it
    np.testing.assert_array_less(np.abs(sample.mean(0) - mean), 4 * error)
    np.testing.assert_array_less(np.abs(sample.std(0) - np.exp(log_std)), 4 * error)
    assert abs(np.corrcoef(sample.T)[0, 1]) < 4 / np.sqrt(number)


def test_tanh_actions_have_the_moments_of_the_squashed_gaussian():
    number = 50_000
    distribution = TanhNormal(jnp.full((number, 1), 0.4), jnp.full((number, 1), -0.3))
    action = np.float64(distribution.action(distribution.sample(jax.random.key(1))))
    std = math.exp(-0.3)
    mean, square = expectation(np.tanh, 0.4, std), expectation(lambda x: np.tanh(x) ** 2, 0.4, std)
    assert np.all(np.abs(action) < 1)
    assert abs(action.mean() - mean) < 4 * math.sqrt((square - mean**2) / number)
    np.testing.assert_allclose((action**2).mean(), square, atol=4 / math.sqrt(number))


def test_other_keys_draw_other_samples():
    distribution = Normal(*parameters(11))
    one, same, other = (distribution.sample(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.all(one != other)


def test_the_environment_gets_the_sample_as_it_is_or_squashed():
    mean, log_std = parameters(12)
    sample = jnp.array([-3.0, 0.0, 0.5])
    np.testing.assert_array_equal(Normal(mean, log_std).action(sample), sample)
    np.testing.assert_allclose(TanhNormal(mean, log_std).action(sample), np.tanh([-3.0, 0.0, 0.5]), rtol=1e-6)
    for kind in BOTH:
        np.testing.assert_array_equal(kind(mean, log_std).mode(), mean)
        np.testing.assert_array_equal(kind(mean, log_std).means(), mean)


@pytest.mark.parametrize("sample", [-20.0, 0.0, 20.0])
@pytest.mark.parametrize("log_std", [-10.0, 2.0])
@pytest.mark.parametrize("kind", BOTH)
def test_extremes_stay_finite_and_so_do_their_gradients(kind, log_std, sample):
    def numbers(mean, log_std, sample):
        distribution, other = kind(mean, log_std), kind(jnp.zeros(2), jnp.array([-10.0, 2.0]))
        return jnp.stack(
            [distribution.log_prob(sample), distribution.entropy(), distribution.kl(other), other.kl(distribution)]
        )

    point = jnp.array([20.0, -20.0]), jnp.full(2, log_std), jnp.full(2, sample)
    assert np.all(np.isfinite(jax.jit(numbers)(*point)))
    for gradient in jax.jit(jax.jacobian(numbers, argnums=(0, 1, 2)))(*point):
        assert np.all(np.isfinite(gradient))


def test_log_tanh_slope_far_from_zero():
    x = np.array([-300.0, -20.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 20.0, 300.0])
    np.testing.assert_allclose(distributions.log_tanh_slope(jnp.float32(x)), log_slope(x), rtol=1e-6, atol=5e-7)
    slope = jax.vmap(jax.grad(distributions.log_tanh_slope))(jnp.float32(x))
    np.testing.assert_allclose(slope, -2 * np.tanh(x), rtol=1e-5, atol=1e-6)


def test_a_distribution_can_be_mapped_like_any_pytree():
    (mean, log_std), (sample, _) = parameters(13), parameters(14)
    mapped = jax.vmap(lambda distribution, x: distribution.log_prob(x))(TanhNormal(mean, log_std), sample)
    np.testing.assert_allclose(mapped, TanhNormal(mean, log_std).log_prob(sample), rtol=1e-6)


def torch_gradients(function, *arrays):
    """The gradients of the sum of `function`, by PyTorch in float64."""
    import torch

    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in arrays]
    return [x.numpy() for x in torch.autograd.grad(function(*tensors).sum(), tensors)]


def jax_gradients(function, *arrays):
    """The gradients of the sum of `function`, by jax."""
    return jax.grad(lambda *x: jnp.sum(function(*x)), argnums=tuple(range(len(arrays))))(*map(jnp.asarray, arrays))


def torch_distribution(kind, mean, log_std):
    """The same distribution, of actions, in PyTorch."""
    from torch import distributions as theirs

    base = theirs.Normal(mean, log_std.exp())
    transforms = [theirs.TanhTransform(cache_size=1)] if kind is TanhNormal else []
    return theirs.Independent(theirs.TransformedDistribution(base, transforms) if transforms else base, 1)


def assert_same_gradients(ours, theirs):
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("kind", BOTH)
def test_log_prob_gradients_are_pytorchs(kind):
    def theirs(mean, log_std, sample):
        distribution = torch_distribution(kind, mean, log_std)
        return distribution.log_prob(sample.tanh() if kind is TanhNormal else sample)

    (mean, log_std), (sample, _) = parameters(15), parameters(16)
    ours = jax_gradients(lambda mean, log_std, sample: kind(mean, log_std).log_prob(sample), mean, log_std, sample)
    assert_same_gradients(ours, torch_gradients(theirs, mean, log_std, sample))


@pytest.mark.torch
def test_normal_entropy_gradients_are_pytorchs():
    mean, log_std = parameters(17)
    ours = jax_gradients(lambda *x: Normal(*x).entropy(), mean, log_std)
    # The mean does not enter theirs at all; 0 · μ lets it be differentiated by.
    theirs = torch_gradients(lambda m, s: torch_distribution(Normal, m, s).entropy() + 0 * m.sum(-1), mean, log_std)
    assert_same_gradients(ours, theirs)


@pytest.mark.torch
def test_tanh_entropy_gradients_are_those_of_the_integral():
    def theirs(mean, log_std):
        import torch

        z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
        weight = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
        x = mean[..., None] + log_std.exp()[..., None] * z
        # The log-slope as PyTorch's own transform has it.
        slope = torch.distributions.TanhTransform().log_abs_det_jacobian(x, x.tanh())
        return (log_std + (weight * slope).sum(-1)).sum(-1)

    mean, log_std = parameters(18)
    ours = jax_gradients(lambda *x: TanhNormal(*x).entropy(), mean, np.minimum(log_std, 0))
    assert_same_gradients(ours, torch_gradients(theirs, mean, np.minimum(log_std, 0)))


@pytest.mark.torch
@pytest.mark.parametrize("kind", BOTH)
def test_kl_gradients_are_pytorchs(kind):
    def theirs(mean, log_std, other_mean, other_log_std):
        from torch import distributions as theirs

        one, other = torch_distribution(kind, mean, log_std), torch_distribution(kind, other_mean, other_log_std)
        return theirs.kl_divergence(one.base_dist, other.base_dist)

    def ours(mean, log_std, other_mean, other_log_std):
        return kind(mean, log_std).kl(kind(other_mean, other_log_std))

    arrays = (*parameters(19), *parameters(20))
    assert_same_gradients(jax_gradients(ours, *arrays), torch_gradients(theirs, *arrays))
