"""The nouns of PPO: what its agent holds, remembers and learns from, and what its config chooses."""

from collections.abc import Callable
from typing import NamedTuple

import optax
from ml_collections import ConfigDict

from jaxrl.algorithms.ppo.config import Hyper
from jaxrl.functional import normalize
from jaxrl.functional.symmetry import Symmetry
from jaxrl.types import Array, Network, PyTree, Spec


class State(NamedTuple):
    """The agent: everything that learning changes."""

    params: PyTree
    optimizer: dict[str, PyTree]  # of each phase, for its parameters as one vector
    obs_moments: normalize.Moments
    value_moments: normalize.Moments
    advantage_moments: normalize.Moments
    novelty_moments: normalize.Moments
    hyper: Hyper
    updates: Array  # [] int32 rollouts learned from


class Memo(NamedTuple):
    """What acting remembers of a step."""

    sample: Array  # [N, A] of the policy's distribution
    log_prob: Array  # [N]
    value: Array  # [N] or [N, H] in units of the return
    distribution: PyTree


class Batch(NamedTuple):
    """What is learned from: [T, N, ...] of a rollout, or [S, B, ...] of a minibatch."""

    obs: PyTree  # normalised
    mirrors: tuple[PyTree, ...]  # the same in each mirror
    reset: Array  # bool: obs is the first of its episode
    memo: Memo  # its value in units of the critic
    advantage: Array
    target: Array  # [..., H] with H > 1 value heads; of the value, in units of the critic
    valid: Array  # bool: a transition, to be learned from
    carry: PyTree  # [P, N, ...] at the start of each of P segments, or [1, B, ...]


class Phase(NamedTuple):
    """Passes over a rollout in which some of the parameters learn by a loss of their own."""

    loss: Callable  # (parts, params, hyper, minibatch, last) -> loss, (kl, note, metrics)
    epochs: int
    rate: str  # the learning rate's name in Hyper
    metric: str  # what the names of its metrics begin with
    owns: Callable  # name of a parameter's branch -> bool
    note: Callable  # distribution of the rollout -> what the first visit is to know of it
    adapt: Callable  # after a minibatch: (learning_rate, kl, target_kl) -> learning_rate
    adapt_pass: Callable  # after a pass: the same


class Bonus(NamedTuple):
    """What exploring is worth beside the reward."""

    init: Callable  # key -> params, a dict of branches
    reward: Callable  # (parts, state, rollout) -> state, bonus [T, N] or 0, metrics
    loss: Callable  # (params, obs of a minibatch) -> [S, B]


class Parts(NamedTuple):
    """What the config chooses; fixed while the program runs."""

    network: Network
    auxiliary: Callable  # (params, carry, obs, reset) -> the network's own losses by name
    optimizer: optax.GradientTransformation
    spec: Spec
    config: ConfigDict  # the group `ppo`
    segment_length: int  # S
    groups: int  # G
    num_minibatches: int
    num_updates: float  # of the run
    phases: dict[str, Phase]
    bonus: Bonus
    symmetries: tuple[Symmetry, ...]
    reference: Callable  # (distribution of the rollout, of the last visit) -> that which KL is measured from
    note: Callable  # distribution -> what the next visit is to know of it
    shape_reward: Callable  # reward -> reward
    bootstrap: Callable  # (value, final_value) -> what a truncated step is worth
    normalize_obs: Callable  # (moments, obs) -> obs
    follow_obs: Callable  # (moments, obs of a rollout, valid) -> moments
    normalize_value: Callable  # (moments, value) -> value
    denormalize_value: Callable  # (moments, value) -> value
    normalize_advantage: Callable  # (moments, advantage of a rollout, valid) -> advantage
    follow_advantage: Callable  # (moments, advantage of a rollout, valid) -> moments
    normalize_minibatch: Callable  # (advantage of a minibatch, valid) -> advantage
    decay: Callable  # progress -> factor of the learning rates
    decay_clip: Callable
    decay_entropy: Callable
