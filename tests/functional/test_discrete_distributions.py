"""Categorical and joint distributions and masks, against enumeration in float64 and PyTorch.

Letters in shapes: B batch, M options of one part, K parts.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl.functional import distributions
from jaxrl.functional.distributions import Categorical, Joint, MultiCategorical, Normal, TanhNormal
from jaxrl.types import Box, Discrete, MultiDiscrete


def options(seed, shape=(6, 5), share=0.6):
    """Logits of some categoricals [B, M] float32, and which options they allow: at least one in each row."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, shape).astype(np.float32)
    allowed = random.uniform(size=shape) < share
    np.put_along_axis(allowed, random.integers(0, shape[-1], (*shape[:-1], 1)), True, axis=-1)
    return logits, allowed


def probabilities(logits, allowed):
    """softmax over the allowed options, float64; exactly 0 elsewhere."""
    weight = np.where(allowed, np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True)), 0.0)
    return weight / weight.sum(-1, keepdims=True)


@jax.jit
def numbers_of(one, other, sample):
    """log_prob, entropy, both KLs: what learning asks of a distribution, compiled once for each kind and shape."""
    return one.log_prob(sample), one.entropy(), one.kl(other), other.kl(one)


def masked(logits, allowed):
    return Categorical(distributions.mask(jnp.asarray(logits), jnp.asarray(allowed)))


def entropies(p):
    """-Σ p log p over what is possible, float64."""
    return np.array([-sum(x * math.log(x) for x in row if x > 0) for row in p.reshape(-1, p.shape[-1])])


def divergences(p, q):
    """Σ p log(p/q) over what is possible, float64."""
    rows = zip(p.reshape(-1, p.shape[-1]), q.reshape(-1, p.shape[-1]), strict=True)
    return np.array([sum(x * math.log(x / y) for x, y in zip(*row, strict=True) if x > 0) for row in rows])


SHAPES = st.sampled_from([(1, 1), (4, 2), (2, 3, 5), (3, 17)])


@given(shape=SHAPES, seed=st.integers(0, 2**31))
def test_categorical_numbers_are_those_of_enumeration(shape, seed):
    (logits, allowed), (other_logits, _) = options(seed, shape), options(seed + 1, shape)
    p, q = probabilities(logits, allowed), probabilities(other_logits, allowed)
    one, other = masked(logits, allowed), masked(other_logits, allowed)
    for option in range(shape[-1]):
        log_prob, entropy, kl, back = numbers_of(one, other, jnp.full(shape[:-1], option))
        np.testing.assert_allclose(np.exp(np.float64(log_prob)), p[..., option], rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(entropy.ravel(), entropies(p), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kl.ravel(), divergences(p, q), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(back.ravel(), divergences(q, p), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(numbers_of(one, one, jnp.zeros(shape[:-1], int))[2], 0.0)
    np.testing.assert_array_equal(one.mode(), np.argmax(p, axis=-1))


def test_a_masked_option_adds_exactly_nothing():
    logits, allowed = options(21)
    log_probs = np.asarray(masked(logits, allowed).log_probs())
    np.testing.assert_array_equal(np.exp(log_probs)[~allowed] * log_probs[~allowed], 0.0)
    # What the options that are not allowed would have said changes nothing.
    other = np.where(allowed, logits, -3 * logits + 7)
    np.testing.assert_array_equal(masked(other, allowed).log_probs(), log_probs)


def test_gradients_are_finite_and_zero_at_masked_options():
    (logits, allowed), (other, _) = options(22), options(23)
    sample = np.argmax(allowed, axis=-1)

    def numbers(logits, other):
        return jnp.sum(jnp.stack(numbers_of(masked(logits, allowed), masked(other, allowed), sample)), axis=1)

    for jacobian in jax.jit(jax.jacobian(numbers, argnums=(0, 1)))(jnp.asarray(logits), jnp.asarray(other)):
        assert np.all(np.isfinite(jacobian))
        np.testing.assert_array_equal(jacobian[:, ~allowed], 0.0)
        assert np.any(jacobian[2:, allowed] != 0)


def test_a_row_that_allows_nothing_is_uniform():
    def numbers(logits):
        row = lambda logits: masked(logits, np.zeros(4, bool))  # noqa: E731
        return jnp.stack(numbers_of(row(logits), row(-logits), 2))

    logits = jnp.array([3.0, -1.0, 0.5, 2.0])
    np.testing.assert_allclose(numbers(logits), [-math.log(4), math.log(4), 0.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(jax.jit(jax.jacobian(numbers))(logits), 0.0)
    sample = Categorical(jnp.full((20_000, 4), distributions.MASKED)).sample(jax.random.key(2))
    assert_frequencies(np.bincount(sample, minlength=4), np.full(4, 0.25))


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_far_logits_stay_finite_and_so_do_their_gradients(shift):
    def numbers(logits, other):
        return jnp.stack(numbers_of(Categorical(logits + shift), Categorical(other - shift), 1))

    point = jnp.array([0.0, 90.0, -1e4]), jnp.array([1e4, 0.0, -90.0])
    assert np.all(np.isfinite(numbers(*point)))
    for jacobian in jax.jit(jax.jacobian(numbers, argnums=(0, 1)))(*point):
        assert np.all(np.isfinite(jacobian))


def test_kl_between_different_masks_is_large_and_no_nan():
    one = masked(np.zeros((2, 3), np.float32), np.array([[True, True, False], [True, False, True]]))
    # Half of the probability lies where the other has e^MASKED: ½ · 10⁸ nats.
    np.testing.assert_allclose(one.kl(Categorical(one.logits[::-1])), 0.5e8, rtol=1e-5)


def test_categorical_kl_of_nearly_the_same_keeps_its_digits_and_is_not_negative():
    logits = np.random.default_rng(24).normal(0, 1, (64, 7)).astype(np.float32)
    other = logits + np.random.default_rng(25).normal(0, 1e-4, logits.shape).astype(np.float32)
    # Some 1e-9 nats, of which Σ p log(p/q) in float32, with 1e-7 in each term, would have no digit right.
    everywhere = np.ones(logits.shape, bool)
    expected = divergences(probabilities(logits, everywhere), probabilities(other, everywhere))
    actual = Categorical(jnp.asarray(logits)).kl(Categorical(jnp.asarray(other)))
    np.testing.assert_allclose(actual, expected, rtol=5e-2)


def test_kl_has_no_seam_where_its_two_forms_meet():
    # One logit of two moves until log(q/p) passes ±1.
    shift = np.linspace(-4, 4, 4001)
    logits = np.stack([shift, np.zeros_like(shift)], axis=1)
    everywhere = np.ones(logits.shape, bool)
    expected = divergences(np.full(logits.shape, 0.5), probabilities(logits, everywhere))
    actual = Categorical(jnp.zeros(logits.shape)).kl(Categorical(jnp.asarray(logits, jnp.float32)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-7)


def assert_frequencies(counts, p):
    """Counts of independent draws, within 4.5 standard deviations of the binomial; never where p is 0."""
    number = counts.sum()
    assert np.all(np.abs(counts - number * p) <= 4.5 * np.sqrt(number * p * (1 - p)))


def test_samples_come_as_often_as_they_are_probable_and_never_masked():
    number, allowed = 40_000, np.array([True, True, False, True, False, True])
    logits = np.array([0.0, 1.5, 9.0, -1.0, 3.0, 0.7])
    spread = jnp.tile(jnp.asarray(logits, jnp.float32), (number, 1))
    distribution = masked(spread, np.tile(allowed, (number, 1)))
    sample = distribution.sample(jax.random.key(3))
    assert sample.dtype == jnp.int32 and sample.shape == (number,)
    assert distribution.mode().dtype == jnp.int32
    np.testing.assert_array_equal(distribution.action(sample), sample)
    assert_frequencies(np.bincount(sample, minlength=6), probabilities(logits, allowed))


def multi(seed, sizes=(2, 3, 4), batch=(), share=0.6):
    """A MultiCategorical of some parts with masks, and the probabilities of each, float64."""
    drawn = [options(seed + k, (*batch, size), share) for k, size in enumerate(sizes)]
    parts = tuple(masked(logits, allowed) for logits, allowed in drawn)
    return MultiCategorical(parts), [probabilities(*part) for part in drawn]


def test_multi_categorical_knows_the_probability_of_every_action():
    distribution, p = multi(26)
    actions = np.array(list(itertools.product(*(range(len(part)) for part in p))))
    expected = np.array([math.prod(part[k] for part, k in zip(p, action, strict=True)) for action in actions])
    actual = np.exp(np.float64(jax.vmap(distribution.log_prob)(jnp.asarray(actions))))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(actual.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(distribution.entropy(), entropies(expected), rtol=1e-5)
    np.testing.assert_array_equal(distribution.mode(), actions[np.argmax(expected)])


def test_multi_categorical_kl_is_that_of_all_actions():
    (one, p), (other, q) = multi(27, share=1.0), multi(31, share=1.0)
    every = lambda parts: np.array([[math.prod(x) for x in itertools.product(*parts)]])  # noqa: E731
    np.testing.assert_allclose(one.kl(other), divergences(every(p), every(q))[0], rtol=1e-5)


def test_multi_categorical_parts_are_drawn_apart():
    number = 40_000
    distribution, p = multi(35, sizes=(2, 3), share=1.0)
    many = jax.tree.map(lambda x: jnp.tile(x, (number, 1)), distribution)
    sample = jax.jit(MultiCategorical.sample)(many, jax.random.key(4))
    assert sample.dtype == many.mode().dtype == jnp.int32 and sample.shape == (number, 2)
    np.testing.assert_array_equal(many.action(sample), sample)
    assert_frequencies(np.bincount(3 * sample[:, 0] + sample[:, 1], minlength=6), np.outer(*p).ravel())


def mixture(seed, batch=4):
    """A Joint of every kind, one of them itself joint."""
    gaussian = jnp.asarray(np.random.default_rng(seed).normal(0, 0.5, (2, batch, 2)), jnp.float32)
    one, many = Categorical(jnp.asarray(options(seed, (batch, 3))[0])), multi(seed, batch=(batch,))[0]
    return Joint((Normal(*gaussian), one, Joint((many, TanhNormal(*gaussian)))))


def test_joint_numbers_are_the_sums_of_the_parts():
    one, other = mixture(36), mixture(37)
    sample = jax.jit(Joint.sample)(one, jax.random.key(5))
    flat = lambda x: (x[0], x[1], x[2][0], x[2][1])  # noqa: E731
    parts = lambda x: flat((*x.parts[:2], x.parts[2].parts))  # noqa: E731
    each = [numbers_of(p, q, x) for p, q, x in zip(parts(one), parts(other), flat(sample), strict=True)]
    for actual, terms in zip(numbers_of(one, other, sample), zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(actual, np.sum(np.float64(terms), axis=0), rtol=1e-5, atol=1e-5)


def test_joint_actions_are_those_of_the_parts_in_order():
    one = mixture(38)
    normal, categorical, (multi_categorical, tanh_normal) = one.action(one.mode())
    np.testing.assert_array_equal(normal, one.parts[0].mean)
    np.testing.assert_array_equal(categorical, np.argmax(one.parts[1].logits, axis=-1))
    np.testing.assert_array_equal(multi_categorical, one.parts[2].parts[0].mode())
    np.testing.assert_allclose(tanh_normal, np.tanh(one.parts[2].parts[1].mean), rtol=1e-6)


def test_joint_parts_are_drawn_with_keys_of_their_own():
    normal = Normal(jnp.zeros((20_000, 1)), jnp.zeros((20_000, 1)))
    one, other = Joint((normal, normal)).sample(jax.random.key(6))
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 4 / math.sqrt(20_000)


def test_means_are_those_of_the_gaussian_parts_in_order():
    one = mixture(40)
    np.testing.assert_array_equal(one.means(), np.tile(one.parts[0].mean, 2))
    assert one.parts[1].means().shape == one.parts[2].parts[0].means().shape == (4, 0)


def test_every_kind_can_be_sliced_and_mapped_like_any_pytree():
    one, other = mixture(41), mixture(42)
    sample = one.mode()
    whole = numbers_of(one, other, sample)
    mapped = jax.vmap(numbers_of)(one, other, sample)
    third = numbers_of(*jax.tree.map(lambda x: x[2], (one, other, sample)))
    for number, each, single in zip(whole, mapped, third, strict=True):
        np.testing.assert_allclose(each, number, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(single, number[2], rtol=1e-5, atol=1e-5)


def test_options_of_a_space_are_counted_in_order():
    assert distributions.option_sizes(Box((3,))) == ()
    assert distributions.option_sizes(Discrete(4)) == (4,)
    assert distributions.option_sizes(MultiDiscrete((2, 5))) == (2, 5)
    nested = (Discrete(3), Box((2,)), (MultiDiscrete((2, 2)), Discrete(7)))
    assert distributions.option_sizes(nested) == (3, 2, 2, 7)


def test_a_mask_that_allows_one_option_of_each_part_is_good():
    every = itertools.product(*(np.eye(size, dtype=bool) for size in (2, 3, 4)))
    distributions.check_mask(np.stack([np.concatenate(rows) for rows in every]), (2, 3, 4))


@pytest.mark.parametrize(("part", "columns"), [(0, slice(0, 2)), (1, slice(2, 5)), (2, slice(5, 9))])
def test_a_mask_that_allows_nothing_is_named(part, columns):
    mask = np.ones((5, 9), bool)
    mask[3:, columns] = False
    message = f"environment 3 allows none of the {part + 2} options of discrete part {part}"
    with pytest.raises(ValueError, match=message) as caught:
        distributions.check_mask(mask, (2, 3, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [np.ones((2, 4), bool), np.ones(5, bool), np.ones((2, 5), np.float32)])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match=r"must be bool\[N, 5\]"):
        distributions.check_mask(mask, (2, 3))


@pytest.mark.torch
def test_categorical_numbers_and_gradients_are_pytorchs():
    import torch
    from torch import distributions as theirs

    (logits, _), (other, _) = options(43), options(44)
    sample = np.arange(6) % 5

    def expected(logits, other):
        one, two = theirs.Categorical(logits=logits), theirs.Categorical(logits=other)
        kl = theirs.kl_divergence(one, two)
        return torch.stack([one.log_prob(torch.tensor(sample)), 2 * one.entropy(), 3 * kl])

    def actual(logits, other):
        one, two = Categorical(logits), Categorical(other)
        return jnp.stack([one.log_prob(sample), 2 * one.entropy(), 3 * one.kl(two)])

    numbers = expected(torch.tensor(logits, dtype=torch.float64), torch.tensor(other, dtype=torch.float64))
    np.testing.assert_allclose(actual(logits, other), numbers, rtol=1e-5, atol=1e-6)
    tensors = [torch.tensor(np.float64(x), requires_grad=True) for x in (logits, other)]
    gradients = jax.grad(lambda *x: jnp.sum(actual(*x)), argnums=(0, 1))(jnp.asarray(logits), jnp.asarray(other))
    for ours, his in zip(gradients, torch.autograd.grad(expected(*tensors).sum(), tensors), strict=True):
        np.testing.assert_allclose(ours, his, rtol=1e-4, atol=1e-5)
