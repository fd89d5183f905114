"""What critics say: plain values and histograms, against float64 NumPy.

Letters in shapes: B bins, H value heads.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl.functional import losses, values

BINS, LIMIT, SIGMA = 41, 5.0, 0.75
WIDTH = 2 * LIMIT / (BINS - 1)
CENTRES = np.linspace(-LIMIT, LIMIT, BINS)
SPREADS = list(values.SPREADS)


def histogram(logits, spread="two_hot"):
    return values.Histogram(jnp.asarray(logits, jnp.float32), LIMIT, spread, SIGMA)


def projected(target, spread):
    """The histogram of one target, float64: by linear interpolation, or by the normal CDF at the edges."""
    target = min(max(target, -LIMIT), LIMIT)
    if spread == "two_hot":
        return np.array([np.interp(target, CENTRES, row) for row in np.eye(BINS)])
    edges = np.append(CENTRES - WIDTH / 2, LIMIT + WIDTH / 2)
    cdf = np.array([0.5 * (1 + math.erf((edge - target) / (SIGMA * WIDTH) / math.sqrt(2))) for edge in edges])
    return np.diff(cdf) / (cdf[-1] - cdf[0])


@jax.jit
def losses_of(value, target):
    return value.loss(target, jnp.zeros_like(target), jnp.inf, losses.l2)


def spread_of(target, spread):
    """What the loss takes for the target's histogram: minus its gradient by the logits where those are equal, + 1/B."""
    gradient = jax.grad(lambda logits: jnp.sum(losses_of(histogram(logits, spread), target)))
    return 1 / BINS - gradient(jnp.zeros((*target.shape, BINS)))


TARGETS = np.array([-7.0, -5.0, -4.99, -3.2, -1.0, -0.1, 0.0, 0.0625, 1.3, 2.718, 4.9, 5.0, 100.0], np.float32)


@pytest.mark.parametrize("spread", SPREADS)
def test_targets_are_spread_as_the_papers_say(spread):
    expected = np.stack([projected(target, spread) for target in np.float64(TARGETS)])
    actual = spread_of(jnp.asarray(TARGETS), spread)
    np.testing.assert_allclose(actual, expected, atol=3e-6)
    np.testing.assert_allclose(np.sum(actual, axis=-1), 1.0, atol=1e-5)


@given(st.lists(st.floats(-LIMIT, LIMIT, width=32), min_size=8, max_size=8))
def test_two_hot_means_exactly_the_target(targets):
    position = (np.array(targets, np.float32) + np.float32(LIMIT)) / np.float32(WIDTH)
    p = np.float64(values.two_hot(jnp.asarray(position), BINS))
    assert np.all(p >= 0) and np.all(np.sum(p > 0, axis=-1) <= 2)
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(p @ np.arange(BINS), np.float64(position), atol=1e-5)


@given(st.lists(st.floats(3.0, BINS - 4.0, width=32), min_size=8, max_size=8))
def test_hl_gauss_means_the_target_inside(positions):
    p = np.float64(values.hl_gauss(jnp.array(positions, jnp.float32), BINS, SIGMA))
    np.testing.assert_allclose(p @ np.arange(BINS), positions, atol=3e-5)


def test_hl_gauss_means_less_than_the_target_at_the_ends_by_what_is_documented():
    p = np.float64(values.hl_gauss(jnp.array([0.0, BINS - 1.0]), BINS, SIGMA))
    np.testing.assert_allclose(p @ np.arange(BINS), [0.37, BINS - 1.37], atol=5e-3)


@pytest.mark.parametrize("heads", [(), (3,)])
def test_expectation_is_the_mean_over_the_centres(heads):
    logits = np.random.default_rng(0).normal(0, 2, (5, 4, *heads, BINS))
    weight = np.exp(logits)
    expected = (weight * CENTRES).sum(-1) / weight.sum(-1)
    np.testing.assert_allclose(histogram(logits).expectation(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("heads", [(), (3,)])
def test_histogram_loss_is_the_cross_entropy(spread, heads):
    random = np.random.default_rng(1)
    logits, target = random.normal(0, 2, (6, *heads, BINS)), random.normal(0, 3, (6, *heads))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    p = np.vectorize(lambda x: projected(x, spread), signature="()->(b)")(target)
    actual = losses_of(histogram(logits, spread), jnp.asarray(target, jnp.float32))
    np.testing.assert_allclose(actual, -(p * log_p).sum(-1), rtol=1e-4)


@pytest.mark.parametrize("spread", SPREADS)
def test_histogram_loss_is_least_at_the_targets_own_histogram(spread):
    target = jnp.float32(1.3)
    best = np.log(np.maximum(projected(1.3, spread), 1e-30))
    least, slope = jax.value_and_grad(lambda logits: losses_of(histogram(logits, spread), target))(jnp.float32(best))
    np.testing.assert_allclose(slope, 0.0, atol=3e-6)
    random = np.random.default_rng(2)
    others = best + random.normal(0, 1, (32, BINS)) * random.choice([0.1, 1.0, 5.0], (32, 1))
    assert np.all(losses_of(histogram(others, spread), jnp.full(32, target)) > least)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_learned_histogram_is_not_biased(spread):
    # Returns of 0.7 ± 0.5, skewed, so that their median or their mode would not do for their mean.
    noise = np.random.default_rng(3).exponential(0.5, 256)
    target = jnp.asarray(0.7 + noise - noise.mean(), jnp.float32)
    optimizer = optax.adam(0.1)

    def learn(carry, _):
        logits, state = carry
        loss = lambda logits: jnp.mean(losses_of(histogram(jnp.tile(logits, (256, 1)), spread), target))  # noqa: E731
        step, state = optimizer.update(jax.grad(loss)(logits), state)
        return (logits + step, state), None

    start = jnp.zeros((1, BINS))
    (logits, _), _ = jax.jit(lambda carry: jax.lax.scan(learn, carry, length=1500))((start, optimizer.init(start)))
    np.testing.assert_allclose(histogram(logits, spread).expectation(), 0.7, atol=5e-4)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_far_target_pulls_no_harder_than_the_last_bin(spread):
    slope = jax.grad(lambda logits, target: losses_of(histogram(logits, spread), target))
    far, last = (slope(jnp.zeros(BINS), jnp.float32(target)) for target in (1e6, LIMIT))
    np.testing.assert_array_equal(far, last)
    assert np.abs(far).sum() <= 2.0


def test_histogram_loss_minds_neither_clip_nor_error():
    logits, target = np.random.default_rng(4).normal(0, 1, (3, BINS)), jnp.array([0.0, 1.0, -2.0])
    plain = losses_of(histogram(logits), target)
    np.testing.assert_array_equal(histogram(logits).loss(target, target + 9.0, 0.1, losses.smooth_l1), plain)


def test_a_histogram_can_be_mapped_like_any_pytree():
    one = histogram(np.random.default_rng(5).normal(0, 1, (4, 3, BINS)))
    turned = jax.jit(lambda value: jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), value))(one)
    assert (turned.limit, turned.spread, turned.smoothing) == (LIMIT, "two_hot", SIGMA)
    np.testing.assert_allclose(turned.expectation(), one.expectation().T, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda value: value.expectation())(one), one.expectation(), rtol=1e-6)


@pytest.mark.parametrize("name", list(losses.VALUE_LOSSES))
@pytest.mark.parametrize("clip", [0.2, 1.0, math.inf])
def test_point_loss_is_the_worse_of_the_clipped_and_the_free(name, clip):
    value, old, target = np.random.default_rng(6).normal(0, 1.5, (3, 64))
    l2, l1 = lambda x: x**2 / 2, lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)  # noqa: E731
    error = {"l2": l2, "smooth_l1": l1}[name]
    expected = np.maximum(error(value - target), error(old + np.clip(value - old, -clip, clip) - target))
    point = values.Point(jnp.asarray(value, jnp.float32))
    actual = point.loss(jnp.float32(target), jnp.float32(old), clip, losses.VALUE_LOSSES[name])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(point.expectation(), point.value)
