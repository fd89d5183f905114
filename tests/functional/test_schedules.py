"""Learning-rate schedules, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import schedules


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
        # ½ (1 + cos(π/4)) = ½ + √2/4
        ("cosine", [1.0, 0.5 + np.sqrt(2) / 4, 0.5, 0.5 - np.sqrt(2) / 4, 0.0]),
    ],
)
def test_decay_along_the_run(name, expected):
    progress = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(schedules.DECAYS[name](progress), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_decay_stays_at_zero_beyond_the_end(name):
    # The last epoch may take the run past its total of steps; a negative rate would unlearn.
    assert schedules.DECAYS[name](jnp.float32(1.5)) == 0.0


@pytest.mark.parametrize("name", list(schedules.DECAYS))
def test_decay_never_rises_and_stays_within_0_and_1(name):
    factor = schedules.DECAYS[name](jnp.linspace(0.0, 1.0, 101))
    assert factor[0] == 1.0
    assert np.all(np.diff(factor) <= 0.0)
    assert np.all((factor >= 0.0) & (factor <= 1.0))


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (0.0, 1.5e-3),
        (0.0049, 1.5e-3),
        (0.0051, 1e-3),
        (0.01, 1e-3),
        (0.0199, 1e-3),
        (0.0201, 1e-3 / 1.5),
        (np.inf, 1e-3 / 1.5),
    ],
)
def test_adaptive_kl_acts_beyond_twice_and_below_half_of_the_target(kl, expected):
    rate = schedules.adaptive_kl(jnp.float32(1e-3), jnp.float32(kl), 0.01)
    np.testing.assert_allclose(rate, expected, rtol=1e-6)


def test_adaptive_kl_stops_at_its_bounds():
    lowest = schedules.adaptive_kl(jnp.float32(1.2e-6), jnp.float32(1.0), 0.01)
    highest = schedules.adaptive_kl(jnp.float32(9e-3), jnp.float32(0.0), 0.01)
    np.testing.assert_allclose([lowest, highest], [1e-6, 1e-2], rtol=1e-6)
    rate = schedules.adaptive_kl(jnp.float32(1.0), jnp.float32(1.0), 0.01, factor=4.0, minimum=0.5, maximum=2.0)
    np.testing.assert_allclose(rate, 0.5)


def test_adaptive_kl_over_a_recorded_sequence():
    kl = jnp.array([0.0, 0.001, 0.012, 0.03, 0.05, 0.018, 0.004])
    # target 0.01:   up     up    stay   down  down   stay   up

    def step(rate, kl):
        rate = schedules.adaptive_kl(rate, kl, 0.01)
        return rate, rate

    _, rates = jax.lax.scan(step, jnp.float32(1e-3), kl)
    powers = [1, 2, 2, 1, 0, 0, 1]
    np.testing.assert_allclose(rates, [1e-3 * 1.5**power for power in powers], rtol=1e-6)


def test_an_adaptation_that_is_not_asked_for_leaves_the_rate_alone():
    assert schedules.unmoved(jnp.float32(0.25), jnp.float32(10.0), 0.01) == 0.25
