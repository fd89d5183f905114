"""The group `ppo` of a config: its keys, the checks between them, and Hyper."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxrl.functional import losses, minibatches, schedules
from jaxrl.types import Array, Box, ConfigError, Spec

LIMITS = {
    "num_envs": (1, None),
    "unroll_length": (1, None),
    "num_minibatches": (1, None),
    "minibatch_size": (0, None),
    "update_epochs": (1, None),
    "segment_length": (0, None),
    "learning_rate": (0.0, 1.0),
    "learning_rate_share": (1e-3, 1.0),
    "learning_rate_bounds": (0.0, 1.0),
    "target_kl": (1e-8, 1e3),
    "critic_epochs": (0, None),
    "critic_learning_rate": (0.0, 1.0),
    "gamma": (0.0, 1.0),
    "gammas": (0.0, 1.0),
    "lambda_": (0.0, 1.0),
    "clip": (1e-6, 10.0),
    "value_clip": (0.0, None),
    "value_cost": (0.0, None),
    "value_weights": (-1e6, 1e6),
    "entropy_cost": (None, None),
    "kl_cost": (0.0, None),
    "bound_cost": (0.0, None),
    "reward_bounds": (-1e30, 1e30),
    "symmetry_weight": (0.0, 1e3),
    "mirror_cost": (0.0, None),
    "rnd_weight": (0.0, None),
    "rnd_learning_rate": (0.0, 1.0),
    "rnd_epochs": (1, None),
    "rnd_hidden_sizes": (1, 65536),
    "rnd_features": (1, 65536),
    "max_gradient_norm": (0.0, None),
    "adam_epsilon": (0.0, 1.0),
    "obs_clip": (0.0, None),
}
# What a truncated step is worth beyond its reward: (V of its own observation [T, N], of the final one [K, N]) -> V.
BOOTSTRAPS = {
    "final_obs": lambda value, final_value: final_value,
    "last_obs": lambda value, final_value: value,
}
# What a minibatch's KL is measured from: (the rollout's policy, that of the last visit) -> the reference, and what the
# next visit is to know of this one.
KL_REFERENCES = {
    "rollout": (lambda behaviour, last: behaviour, lambda distribution: ()),
    "previous": (lambda behaviour, last: last, lambda distribution: distribution),
}
CHOICES = {
    "learning_rate_schedule": (*schedules.DECAYS, "adaptive_kl"),
    "clip_schedule": tuple(schedules.DECAYS),
    "entropy_schedule": tuple(schedules.DECAYS),
    "surrogate": tuple(losses.SURROGATES),
    "bound_loss": tuple(losses.BOUND_LOSSES),
    "bootstrap": tuple(BOOTSTRAPS),
    "value_loss": tuple(losses.VALUE_LOSSES),
    "normalize_advantage": ("batch", "minibatch", "running", "no"),
    "kl_reference": tuple(KL_REFERENCES),
    "adapt_interval": ("minibatch", "pass"),
}


def default_config() -> ConfigDict:
    """The group `ppo`."""
    config = ConfigDict()
    config.num_envs = 2048  # environments in parallel, over all devices
    config.unroll_length = 16  # steps of each environment in one rollout
    config.num_minibatches = 4  # of one pass over a rollout
    config.minibatch_size = 0  # steps of a minibatch, over all devices, instead of num_minibatches; 0 = by that
    config.update_epochs = 4  # passes over a rollout
    config.shuffle = True  # minibatches are dealt anew in each pass; else always in the same order
    config.segment_length = 0  # steps of one environment that stay together in a minibatch; 0 = the whole rollout
    config.learning_rate = 3e-4  # at the start
    config.learning_rate_schedule = "constant"  # constant, linear or cosine to 0 over the run, adaptive_kl
    config.learning_rate_share = 1.0  # share of the run after which linear and cosine have come to 0
    config.learning_rate_bounds = (1e-6, 1e-2)  # within which adaptive_kl moves the rate
    config.target_kl = 0.01  # nats; adaptive_kl lowers the rate beyond twice this, raises it below half
    config.kl_reference = "rollout"  # KL is from the policy that acted (rollout), or from the last visit (previous)
    config.adapt_interval = "minibatch"  # adaptive_kl decides after every minibatch, or by the mean KL of a pass
    config.critic_epochs = 0  # passes of the critic alone, before the policy's; 0 = both learn together
    config.critic_learning_rate = 3e-4  # of those passes; follows linear and cosine, not adaptive_kl
    config.gamma = 0.99  # discount per step
    config.gammas = ()  # discount of each value head; () = gamma for all
    config.lambda_ = 0.95  # of the advantage estimate: 0 one-step TD, 1 Monte Carlo
    config.recompute_advantage = False  # each pass estimates advantages anew, by the critic as it then is; else once
    config.bootstrap = "final_obs"  # a truncated step is worth V of its final observation, or of its own (last_obs)
    config.clip = 0.2  # the probability ratio counts within 1 ± clip
    config.clip_schedule = "constant"  # constant, linear or cosine to 0 over the run
    config.surrogate = "clip"  # clip, smooth_clip (rl_games' smooth clamp)
    config.value_loss = "l2"  # l2, smooth_l1
    config.value_clip = 0.0  # the value may move by this in one update, in normalised units if they are; 0 = freely
    config.value_cost = 1.0  # weight of the value loss, which has its ½ inside
    config.value_weights = ()  # of each value head's advantage in the policy's; () = 1 for all
    config.entropy_cost = 0.0  # weight of the entropy bonus, per nat
    config.entropy_schedule = "constant"  # constant, linear or cosine to 0 over the run
    config.kl_cost = 0.0  # weight of the KL divergence from the policy that acted, per nat
    config.bound_cost = 0.0  # weight of the bound loss
    config.bound_loss = "bound"  # on policy means: the square of what is beyond ±1.1, or of all (regularisation)
    config.reward_scale = 1.0  # learning sees (reward + reward_shift) · reward_scale
    config.reward_shift = 0.0  # is added to the reward before it is scaled
    config.reward_bounds = ()  # (low, high), to which the scaled reward is clipped; () = not
    config.reward_log = False  # learning sees the natural logarithm of that; its lower bound must be above 0
    config.symmetry = ""  # your_package.your_module, whose make(spec) gives the mirrors of the task; "" = none
    config.symmetry_weight = 1.0  # of a mirrored sample beside the sample itself; 0 = mirror loss alone
    config.mirror_cost = 0.0  # weight of the squared difference between a mirrored mean and the mean in the mirror
    config.rnd_weight = 0.0  # of the bonus for novel observations, in units of its standard deviation; 0 = none
    config.rnd_learning_rate = 1e-3  # of the network whose error is the novelty
    config.rnd_epochs = 1  # its passes over a rollout
    config.rnd_hidden_sizes = (128, 128)  # of it, and of the random network that it predicts
    config.rnd_features = 32  # that it predicts
    config.max_gradient_norm = 1.0  # global norm to which the gradient is scaled down; 0 = not
    config.adam_epsilon = 1e-8  # added to the root of the second moment
    config.normalize_obs = True  # by running mean and variance
    config.random_steps = 0  # env steps before training whose mean and variance normalise for good; 0 = running ones
    config.obs_clip = 10.0  # normalised observations lie within ± this
    config.normalize_value = True  # the critic learns returns normalised by running mean and variance
    config.normalize_advantage = "batch"  # by mean and std of the rollout, of each minibatch, of all so far, or no
    return config


class Hyper(NamedTuple):
    """The numbers that may change without recompiling; see `default_config` for their units."""

    learning_rate: Array
    critic_learning_rate: Array
    target_kl: Array
    gamma: Array  # [], or [H] of the value heads
    lambda_: Array
    clip: Array
    value_clip: Array
    value_cost: Array
    value_weights: Array  # [H]
    entropy_cost: Array
    kl_cost: Array
    bound_cost: Array
    mirror_cost: Array
    rnd_weight: Array
    rnd_learning_rate: Array
    max_gradient_norm: Array


def hyper_of(ppo: ConfigDict, spec: Spec) -> Hyper:
    """The numbers of the config that may change without recompiling, as floats or numpy arrays."""
    ones = (1.0,) * spec.num_value_heads
    heads = {"gamma": ppo.gammas or ppo.gamma, "value_weights": ppo.value_weights or ones}
    return Hyper(*(np.float32(heads.get(name, ppo.get(name))) for name in Hyper._fields))


def check_sizes(ppo: ConfigDict) -> tuple[int, int]:
    """(number of minibatches, G groups in which they are dealt); ConfigError if the sizes do not divide."""
    length, steps = ppo.segment_length or ppo.unroll_length, ppo.num_envs * ppo.unroll_length
    if ppo.unroll_length % length:
        raise ConfigError(
            f"config.ppo.segment_length={length} does not divide config.ppo.unroll_length={ppo.unroll_length}; "
            f"the nearest that does is {nearest_divisor(ppo.unroll_length, length)}."
        )
    segments = ppo.unroll_length // length
    if ppo.minibatch_size and (steps % ppo.minibatch_size or ppo.minibatch_size % length):
        nearest = length * nearest_divisor(ppo.num_envs * segments, ppo.minibatch_size / length)
        raise ConfigError(
            f"config.ppo.minibatch_size={ppo.minibatch_size} does not divide the {steps} steps of a rollout into "
            f"minibatches of whole segments of {length} steps; the nearest that does is {nearest}."
        )
    num_minibatches = steps // ppo.minibatch_size if ppo.minibatch_size else ppo.num_minibatches
    groups = minibatches.num_groups(ppo.num_envs, segments, num_minibatches)
    if not groups:
        raise ConfigError(
            f"config.ppo.num_minibatches={num_minibatches} does not divide the {ppo.num_envs * segments} segments "
            f"of a rollout (config.ppo.num_envs={ppo.num_envs} x {segments}); "
            f"the nearest that does is {nearest_divisor(ppo.num_envs * segments, num_minibatches)}."
        )
    return num_minibatches, groups


def nearest_divisor(number: int, wish: float) -> int:
    """The divisor of `number` that is nearest to `wish`."""
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: abs(n - wish))


def check_options(ppo: ConfigDict, network: ConfigDict, spec: Spec) -> None:
    """ConfigError where options exclude each other or do not fit the environments."""
    for name in ("gammas", "value_weights"):
        if len(ppo[name]) not in (0, spec.num_value_heads):
            raise ConfigError(
                f"config.ppo.{name}={ppo[name]} has {len(ppo[name])} elements; the environment has "
                f"{spec.num_value_heads} value heads, so give {spec.num_value_heads}, or () for the same in all."
            )
    bounds = ppo.reward_bounds
    if bounds and (len(bounds) != 2 or bounds[0] >= bounds[1]):
        raise ConfigError(f"config.ppo.reward_bounds={bounds} must be (low, high) with low < high, or ().")
    if ppo.reward_log and not (bounds and bounds[0] > 0):
        raise ConfigError(
            f"config.ppo.reward_log=True takes a logarithm, but config.ppo.reward_bounds={bounds} allow 0; "
            "set the lower one above 0, such as (1e-6, 1e6)."
        )
    if ppo.critic_epochs and network.shared:
        raise ConfigError(
            f"config.ppo.critic_epochs={ppo.critic_epochs} trains the critic alone, but config.network.shared=True "
            "gives it the policy's torso; set config.network.shared=False."
        )
    if ppo.symmetry and network.core != "none":
        raise ConfigError(
            f"config.ppo.symmetry={ppo.symmetry!r} cannot be: the memory of config.network.core={network.core!r} has "
            "no mirror; set one of them to its default."
        )
    if ppo.mirror_cost and not (ppo.symmetry and isinstance(spec.action, Box)):
        raise ConfigError(
            f"config.ppo.mirror_cost={ppo.mirror_cost:g} compares the means of continuous actions with those in the "
            "mirrors of config.ppo.symmetry; set it to 0, or name a symmetry and use a Box action space."
        )
