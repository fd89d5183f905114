"""Running moments against float64 NumPy, over a million samples and after a hundred thousand million."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import normalize

UNEVEN = (1, 1000, 3, 40_000, 64, 7, 8192, 250_000)  # samples of each batch, in turn


@pytest.fixture(autouse=True)
def axes_may_be_added():
    """A sample's own shape is the last axes of a batch, so that moments broadcast against it by design."""
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def jitted_update():
    """One compilation for each shape in all tests; made inside the tests' switches."""
    return jax.jit(normalize.update)


def total(number):
    """(high, low) as float64."""
    high, low = number
    return np.float64(high) + np.float64(low)


@pytest.mark.parametrize(
    ("mean", "std"),
    # Far from zero a sample itself has few digits left: the tolerance below is of float32 at the mean.
    [(0.0, 1.0), (-3.0, 20.0), (1e3, 1.0), (1e-2, 1e-2)],
)
def test_a_million_samples_in_uneven_batches(mean, std):
    samples = np.random.default_rng(0).normal(mean, std, 1_000_000).astype(np.float32)
    moments = normalize.init(jnp.zeros(()))
    for batch in np.split(samples, np.cumsum(UNEVEN * 3)):  # the last batch is what remains
        moments = jitted_update()(moments, batch)
    two_pass = np.float64(samples)
    assert total(moments.count) == len(samples)
    np.testing.assert_allclose(total(moments.mean), two_pass.mean(), rtol=0, atol=2e-6 * std + 6e-8 * abs(mean))
    np.testing.assert_allclose(total(moments.variance), two_pass.var(), rtol=1e-5)


def float64_merge(count, mean, variance, batch):
    """Chan, Golub & LeVeque by sums of squares: M = M₁ + M₂ + δ² n₁ n₂ / (n₁ + n₂)."""
    batch = np.float64(batch)
    size, delta = batch.size, batch.mean() - mean
    square = variance * count + batch.var() * size + delta**2 * count * size / (count + size)
    return count + size, mean + delta * size / (count + size), square / (count + size)


def run_jitted(moments, batches):
    scan = jax.jit(functools.partial(jax.lax.scan, lambda moments, batch: (normalize.update(moments, batch), None)))
    return scan(moments, batches)[0]


def run_eagerly(moments, batches):
    for batch in batches:
        moments = normalize.update(moments, batch)
    return moments


def run_vmapped(moments, batches):
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), moments)
    both = jax.lax.scan(lambda m, b: (jax.vmap(normalize.update, (0, None))(m, b), None), twice, batches)[0]
    np.testing.assert_array_equal(both.mean[0][0], both.mean[0][1])
    return jax.tree.map(lambda x: x[1], both)


@pytest.mark.parametrize(
    ("run", "merges"), [(run_jitted, 20_000), (run_vmapped, 2_000), (run_eagerly, 50)], ids=["jit", "vmap", "eager"]
)
def test_small_batches_still_count_after_1e11_samples(run, merges):
    count, mean, variance = 1e11, 5.0, 1.0
    batches = np.random.default_rng(1).normal(7.0, 3.0, (merges, 64)).astype(np.float32)
    moments = normalize.Moments(*((jnp.float32(number), jnp.float32(0)) for number in (count, mean, variance)))
    # 1e11 is not a float32; what it lacks is the low part.
    moments = moments._replace(count=(moments.count[0], jnp.float32(count - np.float64(moments.count[0]))))
    # One merge moves the mean by some 1e-9; float32 at 5 knows steps of 5e-7, so that it would stay for ever.
    assert np.float32(mean) + np.float32(2.0 * 64 / count) == np.float32(mean)

    moments = run(moments, batches)

    expected = count, mean, variance
    for batch in batches:
        expected = float64_merge(*expected, batch)
    assert total(moments.count) == expected[0] == count + 64 * merges
    np.testing.assert_allclose(total(moments.mean) - mean, expected[1] - mean, rtol=1e-4)
    np.testing.assert_allclose(total(moments.variance) - variance, expected[2] - variance, rtol=1e-4)


def test_one_merge_worked_by_hand():
    # Samples 1, 3 (mean 2, variance 1), then 5, 5, 5, 9 (mean 6, variance 3), with one batch axis more than needed.
    moments = normalize.update(normalize.init(jnp.zeros(())), jnp.array([[1.0], [3.0]]))
    np.testing.assert_array_equal([total(x) for x in moments], [2.0, 2.0, 1.0])
    moments = normalize.update(moments, jnp.array([[5.0, 5.0], [5.0, 9.0]]))
    # mean 28/6; variance (2·1 + 4·3 + 4² · 2·4/6)/6 = (14 + 64/3)/6 = 106/18
    np.testing.assert_allclose([total(x) for x in moments], [6.0, 28 / 6, 106 / 18], rtol=1e-6)


def test_moments_of_nothing_change_nothing():
    x = jnp.array([-2.0, 0.0, 3.0])
    moments = normalize.init(jnp.zeros(()))
    np.testing.assert_allclose(normalize.normalize(moments, x), x, rtol=1e-5)
    np.testing.assert_allclose(normalize.denormalize(moments, x), x, rtol=1e-5)


def test_batch_axes_are_all_that_come_before_a_sample():
    batch = np.random.default_rng(2).normal(size=(4, 5, 3)).astype(np.float32)
    moments = jitted_update()(normalize.init(jnp.zeros(3)), batch)
    assert total(moments.count) == 20
    np.testing.assert_allclose(total(moments.mean), np.float64(batch).mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(total(moments.variance), np.float64(batch).var((0, 1)), atol=1e-6)
    flat = jitted_update()(normalize.init(jnp.zeros(3)), batch.reshape(20, 3))
    np.testing.assert_allclose(total(flat.mean), total(moments.mean), atol=1e-6)


def test_observations_may_be_a_tree_of_arrays():
    random = np.random.default_rng(3)
    batch = {
        "counts": random.integers(0, 256, (6, 7, 2, 2)).astype(np.int32),
        "pair": (random.normal(4, 2, (6, 7)).astype(np.float32), random.normal(0, 1, (6, 7, 3)).astype(np.float32)),
    }
    sample = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), batch)
    moments = normalize.update(normalize.init(sample), batch)
    normal = normalize.normalize(moments, batch)
    assert total(moments.count) == 42
    assert jax.tree.structure(normal) == jax.tree.structure(batch)
    for x, one in zip(jax.tree.leaves(batch), jax.tree.leaves(normal), strict=True):
        x = np.float64(x)
        expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
    back = normalize.denormalize(moments, normal)
    for x, one in zip(jax.tree.leaves(batch), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(one, x, rtol=1e-5, atol=1e-4)


def test_normalised_numbers_lie_within_the_clip():
    moments = normalize.update(normalize.init(jnp.zeros(())), jnp.array([0.0, 2.0]))  # mean 1, variance 1
    x = jnp.array([-100.0, 0.0, 1.0, 4.0, 100.0])
    np.testing.assert_allclose(normalize.normalize(moments, x, clip=5.0), [-5.0, -1.0, 0.0, 3.0, 5.0], atol=1e-4)
    np.testing.assert_allclose(normalize.normalize(moments, x), x - 1.0, rtol=1e-4)


def test_what_never_moves_is_normalised_to_zero():
    # One joint may be locked: variance 0, kept from a division by ε.
    moments = normalize.update(normalize.init(jnp.zeros(2)), jnp.tile(jnp.array([0.0, 0.5]), (8, 1)))
    np.testing.assert_array_equal(total(moments.variance), 0.0)
    np.testing.assert_array_equal(normalize.normalize(moments, jnp.array([0.0, 0.5])), 0.0)


def test_denormalize_undoes_normalize():
    random = np.random.default_rng(4)
    moments = normalize.update(normalize.init(jnp.zeros(3)), random.normal(50, 9, (100, 3)).astype(np.float32))
    x = random.normal(50, 30, (7, 5, 3)).astype(np.float32)
    normal = normalize.normalize(moments, x)
    np.testing.assert_allclose(normalize.denormalize(moments, normal), x, rtol=1e-5)
    np.testing.assert_allclose(normalize.normalize(moments, normalize.denormalize(moments, normal)), normal, atol=1e-4)


def test_learners_under_vmap_keep_their_own_moments():
    batches = np.random.default_rng(5).normal([[[1.0]], [[-4.0]]], 1.0, (2, 30, 3)).astype(np.float32)
    states = jax.vmap(lambda _: normalize.init(jnp.zeros(3)))(jnp.arange(2))
    states = jax.vmap(normalize.update)(states, batches)
    normal = jax.vmap(normalize.normalize)(states, batches)
    for one in range(2):
        alone = normalize.update(normalize.init(jnp.zeros(3)), batches[one])
        np.testing.assert_allclose(total(states.mean)[one], total(alone.mean), rtol=1e-6)
        np.testing.assert_allclose(total(states.variance)[one], total(alone.variance), rtol=1e-5)
        np.testing.assert_allclose(normal[one], normalize.normalize(alone, batches[one]), rtol=1e-4, atol=1e-5)


def test_standardize_has_mean_zero_and_deviation_one():
    x = np.random.default_rng(6).normal(30.0, 4.0, (16, 32)).astype(np.float32)
    actual, double = np.float64(normalize.standardize(x)), np.float64(x)
    np.testing.assert_allclose(actual, (double - double.mean()) / double.std(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([actual.mean(), actual.std()], [0.0, 1.0], atol=1e-5)


@pytest.mark.parametrize("number", [2.0, 0.1, -1e3 / 3, 7e6])
def test_standardize_leaves_equal_numbers_at_zero(number):
    # The mean of many is rounded: all would lie at the same side of it, and be ±1 by their own deviation.
    np.testing.assert_allclose(normalize.standardize(jnp.full(100_003, number)), 0.0, atol=1e-2)


def test_the_moments_of_a_batch_are_those_of_its_rows_that_count():
    batch = np.random.default_rng(8).normal(-5.0, 3.0, (6, 7, 2)).astype(np.float32)
    valid = np.random.default_rng(9).random((6, 7)) < 0.5
    rows = np.float64(batch[valid])
    batch[~valid] = 1e18
    seen = normalize.measure({"x": batch, "mask": valid}, valid)
    assert total(seen.count) == len(rows)
    np.testing.assert_allclose(total(seen.mean["x"]), rows.mean(0), rtol=1e-7)
    np.testing.assert_allclose(total(seen.variance["x"]), rows.var(0), rtol=1e-6)
    assert seen.mean["mask"] == seen.variance["mask"] == ()


def test_bytes_and_masks_go_through_as_they_are():
    sample = {
        "image": jax.ShapeDtypeStruct((2, 2), jnp.uint8),
        "mask": jax.ShapeDtypeStruct((3,), jnp.bool_),
        "x": jax.ShapeDtypeStruct((), jnp.float32),
    }
    batch = {
        "image": jnp.full((4, 2, 2), 200, jnp.uint8),
        "mask": jnp.ones((4, 3), bool),
        "x": jnp.array([1.0, 1, 3, 3]),
    }
    moments = normalize.update(normalize.init(sample), batch)
    assert moments.count[0] == 4
    seen = normalize.normalize(moments, batch, epsilon=0.0)
    np.testing.assert_allclose(seen["x"], [-1.0, -1.0, 1.0, 1.0])
    for name in ("image", "mask"):
        np.testing.assert_array_equal(seen[name], batch[name])
        assert seen[name].dtype == batch[name].dtype
    only = {name: sample[name] for name in ("image", "mask")}
    nothing = normalize.update(normalize.init(only), {name: batch[name] for name in only})
    assert nothing.count[0] == 0
