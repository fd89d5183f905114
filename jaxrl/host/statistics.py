"""Statistics of few runs on few tasks: the interquartile mean and its kin, with stratified bootstrap intervals.

The definitions are those of rliable (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4;
https://github.com/google-research/rliable), which takes as many runs on every task; here their numbers may differ.

Letters in shapes: K tasks, R runs of a task (of each its own number), B resamples. What goes in is `strata`, a list of
K arrays [..., R]; a statistic takes away the runs and the tasks: [...].
"""

from collections.abc import Callable

import numpy as np

RESAMPLES = 2000  # B
COVERAGE = 0.95  # of an interval
CHUNK = 4_000_000  # numbers that are drawn at once, of 8 bytes

Strata = list[np.ndarray]
Statistic = Callable[[Strata], np.ndarray]


def iqm(strata: Strata) -> np.ndarray:
    """The interquartile mean: of all n runs of all tasks together, without the ⌊n/4⌋ lowest and highest.

    rliable's aggregate_iqm, scipy.stats.trim_mean(scores, 0.25, axis=None). Of fewer than four it is the mean. A task
    with more runs than another weighs more.
    """
    ordered = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def mean(strata: Strata) -> np.ndarray:
    """The mean over tasks of the mean over runs; rliable's aggregate_mean."""
    return _task_means(strata).mean(axis=0)


def median(strata: Strata) -> np.ndarray:
    """The median over tasks of the mean over runs, so the mean of one task; rliable's aggregate_median."""
    return np.median(_task_means(strata), axis=0)


def optimality_gap(strata: Strata, gamma: float = 1.0) -> np.ndarray:
    """How far short of gamma a run falls on average, more than gamma counting as gamma; the less the better.

    rliable's aggregate_optimality_gap; of scores that are normalised so that 1 is as good as one wishes for.
    """
    return gamma - mean([np.minimum(scores, gamma) for scores in strata])


def above(strata: Strata, threshold: np.ndarray) -> Strata:
    """Whether each run is above each of T thresholds, as strata [T, R] of 0 and 1 from strata [R].

    Their `mean` is the performance profile, rliable's run-score distribution: the share of runs above a threshold.
    """
    return [(scores > threshold[:, None]).astype(np.float64) for scores in strata]


def interval(strata: Strata, statistic: Statistic, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a statistic by the percentile bootstrap, stratified by task; Efron 1979.

    2,000 times, as many runs as there are of a task are drawn from them with replacement, for each task by itself. A
    run is drawn with all that stands before its axis, such as its whole curve. With three to five runs such intervals
    are too narrow rather than too wide.

    Args:
        strata: K arrays [..., R].
        statistic: of strata [..., B, R], giving [..., B] or [B].
        seed: of the draws.

    Returns:
        Low and high, [...] each.
    """
    random = np.random.default_rng(seed)
    picks = [random.integers(0, scores.shape[-1], (RESAMPLES, scores.shape[-1])) for scores in strata]  # [B, R]
    at_once = max(CHUNK // sum(scores.size for scores in strata), 1)
    drawn = [
        statistic([scores[..., pick[start : start + at_once]] for scores, pick in zip(strata, picks, strict=True)])
        for start in range(0, RESAMPLES, at_once)
    ]
    low, high = np.quantile(np.concatenate(drawn, axis=-1), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=-1)
    return low, high


def _task_means(strata: Strata) -> np.ndarray:
    """[K, ...]"""
    return np.stack([scores.mean(axis=-1) for scores in strata])
