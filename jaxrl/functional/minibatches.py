"""Deals the segments of a rollout out into minibatches, each segment to exactly one.

The environments stand in G fixed groups and each group deals its own segments evenly to all minibatches. So the
numbers do not depend on how many devices share the groups, and no data crosses between devices: a global permutation
under a sharded jit would gather the whole rollout on every device.

Letters in shapes: T steps, N environments, S steps of a segment, G groups, M segments of a group, B minibatches.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key, PyTree


def num_groups(num_envs: int, segments_per_env: int, num_minibatches: int, most: int | None = None) -> int:
    """The largest power of two up to `most` into which the environments can stand; 0 if not even one deals evenly.

    By default `most` is 64, or one for each 64 environments where those are more: as many devices can share them.
    """
    most = most or max(64, num_envs // 64)
    fitting = [
        groups
        for groups in (2**power for power in range(most.bit_length()))
        if groups <= most and num_envs % groups == 0 and (num_envs // groups * segments_per_env) % num_minibatches == 0
    ]
    return max(fitting, default=0)


def segment(rollout: PyTree, segment_length: int, groups: int) -> PyTree:
    """[T, N, ...] → [S, G, M, ...]: each rollout cut into segments, M = N/G · T/S of them in a group."""

    def cut(x):
        steps, envs, *rest = x.shape
        pieces = steps // segment_length
        x = x.reshape(pieces, segment_length, groups, envs // groups, *rest)
        x = jnp.moveaxis(x, 0, 3)
        return x.reshape(segment_length, groups, envs // groups * pieces, *rest)

    return jax.tree.map(cut, rollout)


def sweep(
    step: Callable, carry: PyTree, segments: PyTree, notes: PyTree, hands: Array
) -> tuple[PyTree, PyTree, PyTree]:
    """One pass: `step(carry, minibatch, notes) -> carry, notes, out` on every minibatch in turn.

    Args:
        step: takes a minibatch, pytree of [S, G·M/B, ...], and the notes that go with it, and rewrites them.
        carry: what the steps hand on.
        segments: pytree of [S, G, M, ...], as `segment` cuts them.
        notes: the same of what a step wants to remember of each sample until it sees it again; () of nothing.
        hands: [B, G, M/B], of `deal`.

    Returns:
        The last carry, the notes, and every `out` stacked, [B, ...].
    """
    if len(hands) == 1:  # nothing to deal: a mean does not depend on the order
        join = lambda tree: jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), tree)  # noqa: E731
        carry, written, out = step(carry, join(segments), join(notes))
        notes = jax.tree.map(lambda x, old: x.reshape(old.shape), written, notes)
        return carry, notes, jax.tree.map(lambda x: x[None], out)

    def one(state, hand):
        carry, notes = state
        carry, written, out = step(carry, take(segments, hand), take(notes, hand))
        return (carry, put(notes, hand, written)), out

    (carry, notes), out = jax.lax.scan(one, (carry, notes), hands)
    return carry, notes, out


def deal(key: Key, groups: int, segments: int, num_minibatches: int, shuffle: bool = True) -> Array:
    """[B, G, M/B] int32: which segments of each group every minibatch takes; over all B, a permutation of the M.

    A shuffle is one sort of random numbers whose last log2(M) bits are the segments' own numbers: a fifth of the time
    that sorting pairs takes. Two that draw the same other bits keep their order, which moves neither of them far.

    Args:
        key: of the shuffling.
        groups: G.
        segments: M.
        num_minibatches: B.
        shuffle: False deals in order: the first minibatch is of the first segments of every group.
    """
    order = jnp.broadcast_to(jnp.arange(segments, dtype=jnp.uint32), (groups, segments))
    if shuffle:
        last_bits = jnp.uint32(2 ** (segments - 1).bit_length() - 1)
        order = jnp.sort(_scatter(key, order.size).reshape(order.shape) & ~last_bits | order, axis=1) & last_bits
    order = order.astype(jnp.int32).reshape(groups, num_minibatches, segments // num_minibatches)
    return jnp.moveaxis(order, 1, 0)


def _scatter(key: Key, size: int) -> Array:
    """[size] uint32 to shuffle by: each number's place and the words of the key, mixed.

    One kernel to compile and to start, where the generator behind `jax.random` is a dozen; what is dealt needs no more.
    The mixing is that of MurmurHash3, https://github.com/aappleby/smhasher/wiki/MurmurHash3 (fmix32).
    """
    bits = jnp.arange(size, dtype=jnp.uint32)
    for word in jax.random.key_data(key):
        bits ^= word
        bits = (bits ^ bits >> 16) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ bits >> 13) * jnp.uint32(0xC2B2AE35)
        bits ^= bits >> 16
    return bits


def deal_passes(key: Key, passes: int, groups: int, segments: int, num_minibatches: int, shuffle: bool = True) -> Array:
    """[passes, B, G, M/B] int32: `deal`, so many times, by one draw: a pass is but more groups."""
    hands = deal(key, passes * groups, segments, num_minibatches, shuffle)
    return jnp.moveaxis(hands.reshape(num_minibatches, passes, groups, -1), 1, 0)


def take(segments: PyTree, hand: Array) -> PyTree:
    """[S, G, M, ...] and the [G, m] numbers of a hand → [S, G·m, ...], one minibatch."""

    def pick(x):
        picked = jax.vmap(lambda x, hand: jnp.take(x, hand, axis=1, mode="clip"), in_axes=(1, 0), out_axes=1)(x, hand)
        return picked.reshape(x.shape[0], -1, *x.shape[3:])

    return jax.tree.map(pick, segments)


def put(segments: PyTree, hand: Array, minibatch: PyTree) -> PyTree:
    """[S, G, M, ...] with the minibatch [S, G·m, ...] that `take` took with the same hand written over it."""

    def write(x, new):
        new = new.reshape(x.shape[0], *hand.shape, *x.shape[3:])
        one_group = lambda x, hand, new: x.at[:, hand].set(new, mode="drop", unique_indices=True)  # noqa: E731
        return jax.vmap(one_group, in_axes=(1, 0, 1), out_axes=1)(x, hand, new)

    return jax.tree.map(write, segments, minibatch)
