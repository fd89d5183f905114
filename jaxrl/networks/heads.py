"""Heads: what turns features into a distribution over actions, or into values.

All compute in float32, whatever the torso's dtype. Letters in shapes: F features, A action size, M options of all
discrete parts, H value heads; `...` any leading axes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.functional import distributions, values
from jaxrl.functional.distributions import Categorical, Distribution, Joint, MultiCategorical
from jaxrl.networks.torsos import INITIALIZERS
from jaxrl.types import Array, Box, ConfigError, Discrete, MultiDiscrete, Space

DISTRIBUTIONS = {"normal": distributions.Normal, "tanh_normal": distributions.TanhNormal}


def make(space: Space, config: ConfigDict) -> nn.Module:
    """The policy's head: (features [..., F], action_mask [..., M] bool or None) → distribution over `space`.

    Args:
        space: of the actions. A Box of any shape becomes a vector of its A = ∏ shape elements.
        config: the group `network`.

    Raises:
        ConfigError: initial_std lies where the parametrisation of σ cannot begin.
    """
    match space:
        case Box(shape):
            return GaussianHead(
                action_size=math.prod(shape),
                distribution=config.distribution,
                log_std=config.log_std,
                initial_raw=initial_raw(config),
                std_parametrization=config.std_parametrization,
                std_floor=std_floor(config),
                log_std_bounds=tuple(config.log_std_bounds),
                initializer=config.initializer,
                gain=config.policy_gain,
            )
        case Discrete(size):
            return CategoricalHead(size, config.initializer, config.policy_gain)
        case MultiDiscrete(sizes):
            return MultiCategoricalHead(tuple(sizes), config.initializer, config.policy_gain)
        case tuple():
            num_options = tuple(sum(distributions.option_sizes(part)) for part in space)
            return JointHead(tuple(make(part, config) for part in space), num_options)
    raise TypeError(f"{space!r} is no action space; it must be a Box, Discrete, MultiDiscrete or a tuple of those.")


def make_value(config: ConfigDict, num_heads: int) -> nn.Module:
    """The critic's head: features [..., F] → values.Point or values.Histogram of [...], with H > 1 heads [..., H].

    Args:
        config: the group `network`.
        num_heads: H.
    """
    if config.value_kind == "point":
        return PointHead(num_heads, config.initializer)
    return HistogramHead(num_heads, config.value_bins, config.value_range, config.value_kind, config.value_smoothing)


class GaussianHead(nn.Module):
    """[..., F] → a Normal or TanhNormal over [..., A].

    The raw number behind σ is a learned vector (`free`), a second output of the features (`state`), or a constant
    (`fixed`).
    """

    action_size: int
    distribution: str
    log_std: str
    initial_raw: float
    std_parametrization: str
    std_floor: float
    log_std_bounds: tuple[float, float]
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, features: Array, action_mask: Array | None = None) -> Distribution:
        check_options(action_mask, 0)
        features = features.astype(jnp.float32)
        kernel_init = INITIALIZERS[self.initializer](self.gain)
        mean = nn.Dense(self.action_size, kernel_init=kernel_init, name="mean")(features)
        start = nn.initializers.constant(self.initial_raw)
        if self.log_std == "state":
            raw = nn.Dense(self.action_size, kernel_init=kernel_init, bias_init=start, name="log_std")(features)
        elif self.log_std == "free":
            raw = self.param("log_std", start, (self.action_size,))
        else:
            raw = jnp.full((self.action_size,), self.initial_raw)
        log_std = STD_PARAMETRIZATIONS[self.std_parametrization].log_std(raw, self.std_floor, self.log_std_bounds)
        return DISTRIBUTIONS[self.distribution](mean, jnp.broadcast_to(log_std, mean.shape))


class CategoricalHead(nn.Module):
    """[..., F] → a Categorical over `size` options."""

    size: int
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, features: Array, action_mask: Array | None = None) -> Categorical:
        return Categorical(masked_logits(features, action_mask, self.size, INITIALIZERS[self.initializer](self.gain)))


class MultiCategoricalHead(nn.Module):
    """[..., F] → a MultiCategorical of `sizes` options; the logits of all parts are one matrix product."""

    sizes: tuple[int, ...]
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, features: Array, action_mask: Array | None = None) -> MultiCategorical:
        kernel_init = INITIALIZERS[self.initializer](self.gain)
        logits = masked_logits(features, action_mask, sum(self.sizes), kernel_init)
        return MultiCategorical(tuple(Categorical(part) for part in split(logits, self.sizes)))


class JointHead(nn.Module):
    """[..., F] → a Joint of what its parts make of the same features."""

    parts: tuple[nn.Module, ...]
    num_options: tuple[int, ...]  # of each part; 0 for a Box

    def __call__(self, features: Array, action_mask: Array | None = None) -> Joint:
        check_options(action_mask, sum(self.num_options))
        masks = [None] * len(self.parts) if action_mask is None else split(action_mask, self.num_options)
        return Joint(tuple(part(features, mask) for part, mask in zip(self.parts, masks, strict=True)))


def masked_logits(features: Array, action_mask: Array | None, num_options: int, kernel_init: Callable) -> Array:
    """[..., M], the layer `logits` of the module that calls it, with the options masked that are not allowed."""
    check_options(action_mask, num_options)
    logits = nn.Dense(num_options, kernel_init=kernel_init, name="logits")(features.astype(jnp.float32))
    return logits if action_mask is None else distributions.mask(logits, action_mask)


def split(x: Array, sizes: tuple[int, ...]) -> list[Array]:
    """[..., Σ sizes] → [..., size] of each."""
    return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)


def check_options(action_mask: Array | None, num_options: int) -> None:
    """ValueError unless a mask, where there is one, has an element for each option."""
    if action_mask is not None and action_mask.shape[-1] != num_options:
        raise ValueError(
            f"action_mask has {action_mask.shape[-1]} elements; the action space has {num_options} discrete options."
        )


class StdParametrization(NamedTuple):
    """How σ comes from an unbounded raw number: σ = floor + g(raw), with floor = max(min_std, least)."""

    log_std: Callable  # (raw [..., A], floor, log_std_bounds) -> log σ [..., A]
    inverse: Callable  # (σ, floor) -> raw, on the host; σ > floor
    least: float


def exp_log_std(raw: Array, floor: float, bounds: tuple[float, float]) -> Array:
    """Of σ = exp(clip(raw, bounds)) + floor."""
    log_std = jnp.clip(raw, *bounds)
    return jnp.logaddexp(log_std, math.log(floor)) if floor > 0 else log_std


def softplus_log_std(raw: Array, floor: float, bounds: tuple[float, float]) -> Array:
    """Of σ = softplus(raw) + floor."""
    del bounds
    # Far below zero softplus is 0 in float32; its logarithm must not be -inf.
    return jnp.log(jnp.maximum(jax.nn.softplus(raw) + floor, jnp.finfo(jnp.float32).tiny))


def linear_log_std(raw: Array, floor: float, bounds: tuple[float, float]) -> Array:
    """Of σ = softplus(raw - floor) + floor: raw itself where it is large."""
    return softplus_log_std(raw - floor, floor, bounds)


def inverse_softplus(x: float) -> float:
    """log(eˣ - 1) for x > 0, without overflow."""
    return x + math.log(-math.expm1(-x))


# rl_games' `sigma_parametrization`, rl_games/algos_torch/models.py, https://github.com/Denys88/rl_games.
STD_PARAMETRIZATIONS = {
    "exp": StdParametrization(exp_log_std, lambda std, floor: math.log(std - floor), 0.0),
    "softplus": StdParametrization(softplus_log_std, lambda std, floor: inverse_softplus(std - floor), 0.0),
    "linear": StdParametrization(linear_log_std, lambda std, floor: inverse_softplus(std - floor) + floor, 1e-3),
}


def std_floor(config: ConfigDict) -> float:
    """What σ stays above."""
    return max(config.min_std, STD_PARAMETRIZATIONS[config.std_parametrization].least)


def initial_raw(config: ConfigDict) -> float:
    """The raw number from which σ starts at initial_std; ConfigError if there is none."""
    std, floor, bounds = config.initial_std, std_floor(config), tuple(config.log_std_bounds)
    if std <= floor:
        raise ConfigError(
            f"config.network.initial_std={std:g} cannot be: with config.network.min_std={config.min_std:g} and "
            f"config.network.std_parametrization={config.std_parametrization!r} it must be greater than {floor:g}."
        )
    raw = STD_PARAMETRIZATIONS[config.std_parametrization].inverse(std, floor)
    if config.std_parametrization == "exp" and not bounds[0] <= raw <= bounds[1]:
        low, high = (floor + math.exp(bound) for bound in bounds)
        raise ConfigError(
            f"config.network.initial_std={std:g} cannot be: with config.network.log_std_bounds={bounds} and "
            f"config.network.min_std={config.min_std:g} it must be in [{low:.4g}, {high:.4g}]."
        )
    return raw


class PointHead(nn.Module):
    """[..., F] → values.Point."""

    num_heads: int
    initializer: str

    @nn.compact
    def __call__(self, features: Array) -> values.Point:
        kernel_init = INITIALIZERS[self.initializer](1.0)
        value = nn.Dense(self.num_heads, kernel_init=kernel_init)(features.astype(jnp.float32))
        return values.Point(value[..., 0] if self.num_heads == 1 else value)


class HistogramHead(nn.Module):
    """[..., F] → values.Histogram; starts uniform, and so at 0, as DreamerV3's critic does."""

    num_heads: int
    bins: int
    limit: float
    spread: str
    smoothing: float

    @nn.compact
    def __call__(self, features: Array) -> values.Histogram:
        size = self.num_heads * self.bins
        logits = nn.Dense(size, kernel_init=nn.initializers.zeros)(features.astype(jnp.float32))
        if self.num_heads > 1:
            logits = logits.reshape(*logits.shape[:-1], self.num_heads, self.bins)
        return values.Histogram(logits, self.limit, self.spread, self.smoothing)
