"""The dealer: every transition of a rollout in exactly one minibatch, its steps in order, on its own device.

Letters in shapes: T steps, N environments, S steps of a segment, G groups, M segments of a group, B minibatches.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl.functional import minibatches

few, size = st.integers(1, 4), st.integers(1, 200)
PAIRS = list(itertools.combinations(range(8), 2))


def numbered(steps, envs):
    """A rollout whose transition of step t, environment n is the number t · N + n."""
    return jnp.arange(steps * envs).reshape(steps, envs)


def one_deal(key, segments, num_minibatches):
    """The hands of one pass."""
    _, groups, number, *_ = jax.tree.leaves(segments)[0].shape
    return minibatches.deal(key, groups, number, num_minibatches)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def dealt(rollout, segment_length, groups, num_minibatches, key):
    """Every minibatch of one pass, [B, S, G·M/B, ...]."""
    segments = minibatches.segment(rollout, segment_length, groups)
    show = lambda carry, batch, notes: (carry, notes, batch)  # noqa: E731
    return minibatches.sweep(show, (), segments, (), one_deal(key, segments, num_minibatches))[2]


@given(length=few, pieces=few, groups=st.sampled_from([1, 2, 4]), number=few, share=few, seed=st.integers(0, 99))
@settings(max_examples=12)
def test_every_transition_is_in_exactly_one_minibatch(length, pieces, groups, number, share, seed):
    # As many environments in a group as make its segments, envs · pieces, divide by the number of minibatches.
    steps, envs = length * pieces, groups * number * share
    rollout = numbered(steps, envs)
    batches = np.asarray(dealt(rollout, length, groups, number, jax.random.key(seed)))
    assert batches.shape == (number, length, steps * envs // (length * number))
    np.testing.assert_array_equal(np.sort(batches, axis=None), np.arange(steps * envs))
    # Within a segment the environment stays and time goes on by one; it begins at a multiple of S.
    time, env = batches // envs, batches % envs
    assert np.all(env == env[:, :1])
    assert np.all(time == time[:, :1] + np.arange(length)[:, None])
    assert np.all(time[:, 0] % length == 0)
    # Each group, a run of N/G neighbours, gives each minibatch an equal share, side by side in order.
    group = env[:, 0] // (envs // groups)
    np.testing.assert_array_equal(group, np.tile(np.repeat(np.arange(groups), group.shape[1] // groups), (number, 1)))


def test_segments_worked_by_hand():
    # T = 4, N = 4, S = 2, G = 2: group 0 holds environments 0 and 1, group 1 holds 2 and 3; transition = 4t + n.
    segments = minibatches.segment(numbered(4, 4), 2, 2)
    assert segments.shape == (2, 2, 4)
    np.testing.assert_array_equal(segments[0], [[0, 8, 1, 9], [2, 10, 3, 11]])  # first steps, t = 0 and 2
    np.testing.assert_array_equal(segments[1], segments[0] + 4)  # one step later
    picked = minibatches.take(segments, jnp.array([[3, 0], [1, 2]]))
    np.testing.assert_array_equal(picked, [[9, 0, 10, 3], [13, 4, 14, 7]])


def test_all_leaves_of_a_rollout_are_dealt_alike():
    rollout = numbered(6, 8)
    tree = {"obs": jnp.stack([rollout, -rollout, 2 * rollout], axis=-1), "reward": rollout, "done": rollout % 2 == 0}
    batches = dealt(tree, 3, 4, 2, jax.random.key(0))
    np.testing.assert_array_equal(batches["obs"], jnp.stack([batches["reward"] * x for x in (1, -1, 2)], axis=-1))
    np.testing.assert_array_equal(batches["done"], batches["reward"] % 2 == 0)


def test_a_hand_is_dealt_to_each_group_by_itself():
    hands = np.asarray(minibatches.deal(jax.random.key(0), 4, 24, 3))
    assert hands.shape == (3, 4, 8)
    order = np.moveaxis(hands, 1, 0).reshape(4, 24)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(24), (4, 1)))
    assert len({tuple(row) for row in order}) == 4


def test_every_pass_is_dealt_by_itself():
    passes = np.asarray(minibatches.deal_passes(jax.random.key(0), 3, 4, 24, 2))
    assert passes.shape == (3, 2, 4, 12)
    order = np.moveaxis(passes, 2, 1).reshape(12, 24)  # of each pass and group
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(24), (12, 1)))
    assert len({tuple(row) for row in order}) == 12
    in_order = minibatches.deal_passes(jax.random.key(0), 2, 2, 6, 3, shuffle=False)
    np.testing.assert_array_equal(in_order, [[[[0, 1], [0, 1]], [[2, 3], [2, 3]], [[4, 5], [4, 5]]]] * 2)


def test_another_key_shuffles_otherwise():
    deal = lambda seed: np.asarray(dealt(numbered(4, 16), 2, 4, 2, jax.random.key(seed)))  # noqa: E731
    np.testing.assert_array_equal(deal(0), deal(0))
    assert np.any(deal(0) != deal(1))
    # Not the same minibatches in another order either.
    assert set(deal(0)[0].flat) not in ({*deal(1)[0].flat}, {*deal(1)[1].flat})


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("alike", [False, True])
def test_every_segment_meets_every_minibatch_alike(impl, alike):
    # 400 deals of 8 segments to 4 minibatches: each segment 100 times in each, give or take 5 standard errors.
    keys = jax.random.split(jax.random.key(2, impl=impl), 400)
    if alike:  # of seeds in a row, which differ in a few bits
        keys = jax.vmap(lambda seed: jax.random.key(seed, impl=impl))(jnp.arange(400))
    hands = np.asarray(jax.vmap(lambda key: minibatches.deal(key, 1, 8, 4))(keys))  # [400, 4, 1, 2]
    counts = np.array([[np.sum(hands[:, batch] == segment) for segment in range(8)] for batch in range(4)])
    assert np.all(np.abs(counts - 100) < 5 * np.sqrt(400 * 0.25 * 0.75))
    # And so do two segments together: 1 of 7 pairs, 400 / 7 times.
    together = np.array([[np.sum(np.any(np.all(np.sort(hands[:, :, 0]) == pair, -1), -1))] for pair in PAIRS])
    assert np.all(np.abs(together - 400 / 7) < 5 * np.sqrt(400 / 7 * 6 / 7))


def test_groups_are_dealt_without_regard_to_each_other():
    # Where each of 4,096 groups puts its first segment, beside where the next group puts it: 16 places, and 256 pairs.
    order = np.asarray(minibatches.deal(jax.random.key(0), 4096, 16, 1))[0]
    place = np.argmin(order, axis=1)
    for step in (1, 2, 64):
        pairs = np.bincount(16 * place + np.roll(place, step), minlength=256)
        assert np.sum((pairs - 16) ** 2 / 16) < 255 + 5 * np.sqrt(2 * 255)  # χ² with 255 degrees of freedom


def test_one_minibatch_is_the_whole_rollout():
    rollout = numbered(4, 6)
    batches = dealt(rollout, 4, 2, 1, jax.random.key(0))
    np.testing.assert_array_equal(batches[0], rollout)
    pieces = dealt(rollout, 2, 2, 1, jax.random.key(0))
    assert pieces.shape == (1, 2, 12)
    np.testing.assert_array_equal(np.sort(pieces, axis=None), np.arange(24))


@pytest.mark.parametrize("num_minibatches", [1, 2])
def test_the_carry_goes_from_minibatch_to_minibatch(num_minibatches):
    def step(carry, batch, notes):
        return carry + jnp.sum(batch), notes, carry

    segments = minibatches.segment(numbered(2, 4), 1, 2)
    hands = one_deal(jax.random.key(0), segments, num_minibatches)
    carry, _, seen = minibatches.sweep(step, jnp.int32(100), segments, (), hands)
    assert carry == 100 + sum(range(8))
    assert seen.shape == (num_minibatches,)
    assert seen[0] == 100
    assert np.all(np.diff(seen) > 0)


@pytest.mark.parametrize("num_minibatches", [1, 3])
def test_a_note_comes_back_with_the_sample_it_was_written_for(num_minibatches):
    def step(carry, batch, notes):
        return carry, 10 * batch + 1, notes

    segments = minibatches.segment(numbered(4, 6), 2, 2)  # [2, 2, 6]
    hands = one_deal(jax.random.key(0), segments, num_minibatches)
    _, written, seen = minibatches.sweep(step, (), segments, -segments, hands)
    np.testing.assert_array_equal(np.sort(seen, axis=None), np.sort(-segments, axis=None))
    np.testing.assert_array_equal(written, 10 * segments + 1)


def test_without_shuffling_minibatches_come_in_order():
    hands = minibatches.deal(jax.random.key(0), 2, 6, 3, shuffle=False)  # [3, 2, 2]
    np.testing.assert_array_equal(hands, [[[0, 1], [0, 1]], [[2, 3], [2, 3]], [[4, 5], [4, 5]]])


@given(num_envs=size, segments=st.integers(1, 20), number=st.integers(1, 40), most=st.integers(1, 100))
@settings(max_examples=200)
def test_groups_divide_the_environments_and_deal_evenly(num_envs, segments, number, most):
    def fits(groups):
        return num_envs % groups == 0 and (num_envs // groups * segments) % number == 0

    groups = minibatches.num_groups(num_envs, segments, number, most)
    powers = [2**power for power in range(10) if 2**power <= most]
    if not groups:
        assert not any(map(fits, powers))
    else:
        assert groups in powers
        assert fits(groups)
        assert not any(fits(larger) for larger in powers if larger > groups)


@pytest.mark.parametrize(
    ("num_envs", "segments", "number", "expected"),
    [
        (2048, 1, 4, 64),
        (64, 1, 4, 16),  # four environments to a group, one for each minibatch
        (64, 4, 4, 64),
        (6, 1, 3, 2),
        (7, 1, 7, 1),
        (7, 1, 2, 0),
        (1, 1, 1, 1),
    ],
)
def test_number_of_groups(num_envs, segments, number, expected):
    assert minibatches.num_groups(num_envs, segments, number) == expected


def test_devices_share_the_groups_without_traffic_and_without_changing_a_number():
    devices = jax.devices()
    assert len(devices) == 8
    rollout, key = numbered(4, 32), lambda: jax.random.key(3)
    groups = minibatches.num_groups(32, 2, 4)
    assert groups == 16
    alone = dealt(rollout, 2, groups, 4, key())

    mesh = jax.sharding.Mesh(np.array(devices), ("devices",))
    split = lambda *axes: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))  # noqa: E731
    shared = jax.jit(
        lambda rollout, key: dealt(rollout, 2, groups, 4, key),
        in_shardings=(split(None, "devices"), split()),
        out_shardings=split(None, None, "devices"),
    )
    np.testing.assert_array_equal(shared(rollout, key()), alone)
    program = shared.lower(rollout, key()).compile().as_text()
    for traffic in ("all-gather", "all-to-all", "all-reduce", "collective-permute", "reduce-scatter"):
        assert traffic not in program
