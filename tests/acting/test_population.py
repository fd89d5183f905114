"""The exploit of a population: who becomes whose copy, and with which numbers."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.acting import population
from jaxrl.host import sharding

RULES = population.Rules(fraction=0.25, factors=(0.8, 1.2), resample=0.0)
RANGES = {"rate": population.loguniform(1e-4, 1e-2)}


class Hyper(NamedTuple):
    rate: jax.Array
    other: jax.Array


class Agent(NamedTuple):
    params: dict
    hyper: Hyper


def agents(size):
    """Members that can be told apart by every leaf."""
    number = jnp.arange(size, dtype=jnp.float32)
    return Agent({"w": number[:, None] + jnp.zeros((size, 3))}, Hyper(1e-3 + 1e-4 * number, number + 7))


def numpy_select(score, fraction, candidate):
    """Truncation selection in plain Python; candidate: of each member, the parent that was drawn for it."""
    size = len(score)
    count = min(math.ceil(round(fraction * size, 6)), size // 2)
    known = [s if math.isfinite(s) else -math.inf for s in score]
    order = sorted(range(size), key=lambda i: (-known[i], i))
    worst = set(order[size - count :]) | {i for i in range(size) if not math.isfinite(score[i])}
    return [candidate[i] if i in worst and known[candidate[i]] > known[i] else i for i in range(size)]


def test_the_worst_of_four_becomes_a_copy_of_the_best_with_another_rate():
    # A quarter of four is one: member 2 has the least and becomes member 1, which has most. Its rate was 1e-3 + 1e-4,
    # and is now 0.8 or 1.2 times that; what was not swept is the parent's as it was.
    after, parent = population.exploit(jax.random.key(0), agents(4), jnp.array([3.0, 9.0, 1.0, 5.0]), RANGES, RULES)
    assert list(parent) == [0, 1, 1, 3]
    assert np.array_equal(after.params["w"][:, 0], [0, 1, 1, 3])
    assert np.array_equal(after.hyper.other, [7, 8, 8, 10])
    assert np.array_equal(after.hyper.rate[jnp.array([0, 1, 3])], agents(4).hyper.rate[jnp.array([0, 1, 3])])
    assert round(float(after.hyper.rate[2] / 1.1e-3), 5) in (0.8, 1.2)


@pytest.mark.parametrize("seed", range(12))
def test_selection_is_what_plain_python_makes_of_it(seed):
    random = np.random.default_rng(seed)
    size, fraction = [(2, 0.5), (7, 0.2), (16, 0.25)][seed % 3]
    score = random.integers(0, 6, size).astype(np.float32)  # with ties
    score[random.random(size) < 0.2] = random.choice([np.nan, np.inf, -np.inf])
    parent = np.asarray(population.select(jax.random.key(seed), jnp.array(score), fraction))
    assert list(parent) == numpy_select(score.tolist(), fraction, parent.tolist())
    # Who was copied over by such a rule got one of the best.
    sound = np.where(np.isfinite(score), score, -np.inf)
    count = min(math.ceil(round(fraction * size, 6)), size // 2)
    best = np.argsort(-sound, kind="stable")[:count]
    copies = parent != np.arange(size)
    assert set(parent[copies]) <= set(best) and np.isfinite(score[parent[copies]]).all()
    # And nobody was spared who did worse than all of the best and is of the worst.
    worst = np.argsort(-sound, kind="stable")[size - count :]
    assert all(copies[i] for i in worst if sound[i] < sound[best].min())


def test_a_broken_member_is_the_worst_however_few_are_copied():
    score = jnp.array([jnp.nan, 1.0, jnp.inf, 2.0, -jnp.inf, 3.0, 4.0, 5.0])
    for seed in range(5):
        assert list(population.select(jax.random.key(seed), score, 0.125)) == [7, 1, 7, 3, 7, 5, 6, 7]


@pytest.mark.parametrize("score", [[0.0] * 4, [math.nan] * 4])
def test_where_nobody_is_better_nothing_is_copied(score):
    after, parent = population.exploit(jax.random.key(1), agents(4), jnp.array(score), RANGES, RULES)
    assert list(parent) == [0, 1, 2, 3]
    assert all(map(np.array_equal, jax.tree.leaves(after), jax.tree.leaves(agents(4))))


def test_parents_are_drawn_from_all_of_the_best():
    drawn = {
        tuple(np.asarray(population.select(jax.random.key(seed), jnp.arange(8.0), 0.25))[:2].tolist())
        for seed in range(40)
    }
    assert drawn == {(6, 6), (6, 7), (7, 6), (7, 7)}


@pytest.mark.parametrize("size, fraction, count", [(15, 0.2, 3), (16, 0.2, 4), (4, 0.2, 1), (3, 0.5, 1), (10, 0.5, 5)])
def test_the_share_is_rounded_up_to_at_most_half(size, fraction, count):
    assert population.group_size(size, fraction) == count


def explored(value, range_, **rules):
    rules = population.Rules(**{"fraction": 0.2, "factors": (0.8, 1.2), "resample": 0.0} | rules)
    return np.asarray(population.explore(jax.random.key(3), jnp.full(4000, value, jnp.float32), range_, rules))


def test_a_number_is_multiplied_by_each_factor_as_often():
    values = explored(1e-3, RANGES["rate"])
    assert set(np.round(values / 1e-3, 4)) == {np.float32(0.8), np.float32(1.2)}
    assert abs(np.mean(values > 1e-3) - 0.5) < 0.03  # four standard deviations of 4000 coins


def test_a_number_stays_within_its_range():
    assert explored(1e-4, RANGES["rate"]).min() == np.float32(1e-4)
    assert explored(1e-2, RANGES["rate"]).max() == np.float32(1e-2)


def test_a_number_is_drawn_anew_with_its_probability():
    values = explored(1e-3, RANGES["rate"], resample=0.25)
    is_drawn = ~(np.isclose(values, 8e-4) | np.isclose(values, 1.2e-3))
    assert abs(is_drawn.mean() - 0.25) < 0.03
    assert abs(np.log10(values[is_drawn]).mean() + 3) < 0.08  # log-uniform: the mean exponent of 1e-4 to 1e-2 is -3
    even = explored(0.5, population.uniform(0.0, 1.0), resample=1.0)
    assert abs(even.mean() - 0.5) < 0.02 and even.min() >= 0 and even.max() <= 1
    few = explored(0.5, population.choice((0.1, 0.5, 0.9)), resample=1.0)
    assert [round(float(np.mean(few == np.float32(x))), 1) for x in (0.1, 0.5, 0.9)] == [0.3, 0.3, 0.3]


def test_each_number_of_each_copy_is_changed_by_itself():
    ranges = {"rate": population.uniform(0.0, 1.0), "other": population.uniform(0.0, 100.0)}
    score = jnp.concatenate([jnp.zeros(32), jnp.ones(32)])
    rules = RULES._replace(fraction=0.5)
    before = Agent({}, Hyper(jnp.full(64, 0.5), jnp.full(64, 50.0)))
    hyper = population.exploit(jax.random.key(0), before, score, ranges, rules)[0].hyper
    pairs = {(round(float(a) / 0.5, 3), round(float(b) / 50, 3)) for a, b in zip(*hyper, strict=True)}
    assert pairs == {(1.0, 1.0), (0.8, 0.8), (0.8, 1.2), (1.2, 0.8), (1.2, 1.2)}


def test_members_spread_over_devices_are_what_they_would_be_on_one():
    mesh = sharding.mesh(jax.devices()[:4])
    score = jnp.array([3.0, 9.0, 1.0, 5.0, 2.0, 8.0, jnp.nan, 0.0])
    run = lambda key, agents, score: population.exploit(key, agents, score, RANGES, RULES)  # noqa: E731
    alone, parent = jax.jit(run)(jax.random.key(2), agents(8), score)
    place = sharding.by_run(mesh)
    spread, same = jax.jit(run, out_shardings=(place, None))(jax.random.key(2), jax.device_put(agents(8), place), score)
    assert list(same) == list(parent) and {*np.flatnonzero(parent != np.arange(8))} == {6, 7}
    assert all(map(np.array_equal, jax.tree.leaves(alone), jax.tree.leaves(spread)))
    assert spread.params["w"].sharding.shard_shape((8, 3)) == (2, 3)


def test_keys_in_a_state_are_taken_over_too():
    class Keyed(NamedTuple):
        key: jax.Array
        hyper: Hyper

    before = Keyed(jax.random.split(jax.random.key(5), 4), agents(4).hyper)
    data = np.asarray(jax.random.key_data(before.key))
    after, _ = population.exploit(jax.random.key(0), before, jnp.arange(4.0), RANGES, RULES)
    assert np.array_equal(jax.random.key_data(after.key), data[[3, 1, 2, 3]])
