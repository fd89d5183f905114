"""The numbers that sum up few runs are rliable's, and their intervals cover what they should."""

import numpy as np
import pytest
import scipy.stats

from jaxrl.host import statistics

# Ten runs of six tasks; rliable 1.2.0 (arch 7.2.0, 50,000 resamples) gave what stands below of them.
SCORES = np.array([
    [0.45, 0.487, 0.936, 0.862, 0.746, 1.245], [0.922, 0.919, 0.399, 0.314, 0.711, 1.117],
    [-0.53, 0.452, 0.182, 0.527, 0.742, 0.973], [0.565, 0.957, 0.629, 1.367, 0.694, 1.241],
    [0.761, 0.578, 0.383, 0.451, 0.777, 1.188], [-0.004, 0.456, 0.616, 1.036, 1.046, 1.242],
    [0.138, 0.488, 0.994, 1.417, 0.456, 1.706], [0.938, 0.853, 0.786, 0.694, 1.543, 1.884],
    [1.121, 1.066, 0.823, 0.337, 0.958, 1.363], [-0.115, 0.698, 0.852, 1.098, 0.486, 0.835],
])  # fmt: skip
STRATA = list(SCORES.T)
RLIABLE = {
    "median": (0.75285, 0.6438, 0.8422),
    "iqm": (0.7785666666666665, 0.6835, 0.8716),
    "mean": (0.7809333333333334, 0.6951, 0.8673),
    "optimality_gap": (0.2970666666666667, 0.2279, 0.3682),
}
THRESHOLDS = np.array([0.0, 0.5, 1.0, 1.5])
PROFILE = [0.95, 0.7166666666666667, 0.26666666666666666, 0.05]
PROFILE_LOW, PROFILE_HIGH = [0.9, 0.6, 0.1833, 0.0], [1.0, 0.8167, 0.35, 0.1]


@pytest.mark.parametrize("name", list(RLIABLE))
def test_an_aggregate_and_its_interval_are_rliables(name):
    statistic, (value, low, high) = getattr(statistics, name), RLIABLE[name]
    assert statistic(STRATA) == pytest.approx(value, abs=1e-12)
    # Both are of random draws, ours of 2,000: their ends differ by a few hundredths of the interval.
    np.testing.assert_allclose(statistics.interval(STRATA, statistic), (low, high), atol=0.08 * (high - low))


def test_the_performance_profile_and_its_interval_are_rliables():
    above = statistics.above(STRATA[0:1], np.array([0.45]))
    assert above[0].tolist() == [[0, 1, 0, 1, 1, 0, 0, 1, 1, 0]]  # 0.45 is not above 0.45
    above = [statistics.above([scores], THRESHOLDS)[0] for scores in STRATA]
    np.testing.assert_allclose(statistics.mean(above), PROFILE, atol=1e-12)
    np.testing.assert_allclose(statistics.interval(above, statistics.mean), (PROFILE_LOW, PROFILE_HIGH), atol=0.02)


def test_aggregates_of_tasks_with_unlike_numbers_of_runs_by_hand():
    strata = [np.array([0.0, 1.0]), np.array([2.0, 2.0, 5.0, 3.0]), np.array([10.0])]
    assert statistics.mean(strata) == pytest.approx((0.5 + 3.0 + 10.0) / 3)
    assert statistics.median(strata) == 3.0
    assert statistics.iqm(strata) == pytest.approx((1 + 2 + 2 + 3 + 5) / 5)  # of seven, one goes at either end
    assert statistics.optimality_gap(strata, gamma=4.0) == pytest.approx(4.0 - (0.5 + 2.75 + 4.0) / 3)


@pytest.mark.parametrize("count", range(1, 14))
def test_iqm_is_scipys_trimmed_mean_along_whole_curves(count):
    curves = np.random.default_rng(count).normal(size=(5, count))  # [P, R]
    expected = scipy.stats.trim_mean(curves, 0.25, axis=1)
    np.testing.assert_allclose(statistics.iqm([curves[:, : count // 2], curves[:, count // 2 :]]), expected)


def test_tasks_are_drawn_apart_so_that_their_difference_widens_no_interval():
    strata = [np.zeros(5), np.full(5, 100.0)]
    assert statistics.interval(strata, statistics.mean) == (50.0, 50.0)
    low, high = statistics.interval([np.concatenate(strata)], statistics.mean)  # one task: the runs mix
    assert high - low > 40


def test_a_run_is_drawn_with_its_whole_curve():
    runs = np.array([[0.0, 0.0, 0.0], [8.0, 8.0, 8.0]]).T  # [P, R]
    low, high = statistics.interval([runs], statistics.iqm)
    assert low.tolist() == [0.0] * 3 and high.tolist() == [8.0] * 3


def test_intervals_do_not_depend_on_how_many_draws_fit_into_memory(monkeypatch):
    whole = statistics.interval(STRATA, statistics.iqm, seed=3)
    monkeypatch.setattr(statistics, "CHUNK", 700)
    assert statistics.interval(STRATA, statistics.iqm, seed=3) == whole


def test_the_interval_of_many_runs_covers_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [
        statistics.interval([random.normal(size=30), 5 + random.normal(size=30)], statistics.mean, seed)
        for seed in range(200)
    ]
    covered = sum(low <= 2.5 <= high for low, high in intervals)
    assert 178 <= covered < 200  # 190 expected; four standard deviations are 12
