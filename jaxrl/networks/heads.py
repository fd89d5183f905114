"""Heads: what turns features into a distribution over actions, or into values."""

import math

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.functional import distributions
from jaxrl.networks.torsos import INITIALIZERS
from jaxrl.types import Array

DISTRIBUTIONS = {"normal": distributions.Normal, "tanh_normal": distributions.TanhNormal}


class GaussianHead(nn.Module):
    """[..., F] → a Normal or TanhNormal over [..., A]; computed in float32 whatever the torso's dtype.

    log_std is a learned vector (`free`), a second output of the features (`state`), or a constant (`fixed`).
    """

    action_size: int
    distribution: str
    log_std: str
    initial_std: float
    log_std_bounds: tuple[float, float]
    initializer: str
    gain: float

    @nn.compact
    def __call__(self, features: Array):
        features = features.astype(jnp.float32)
        kernel_init = INITIALIZERS[self.initializer](self.gain)
        mean = nn.Dense(self.action_size, kernel_init=kernel_init, name="mean")(features)
        start = nn.initializers.constant(math.log(self.initial_std))
        if self.log_std == "state":
            log_std = nn.Dense(self.action_size, kernel_init=kernel_init, bias_init=start, name="log_std")(features)
        elif self.log_std == "free":
            log_std = self.param("log_std", start, (self.action_size,))
        else:
            log_std = jnp.full((self.action_size,), math.log(self.initial_std))
        log_std = jnp.broadcast_to(jnp.clip(log_std, *self.log_std_bounds), mean.shape)
        return DISTRIBUTIONS[self.distribution](mean, log_std)


class ValueHead(nn.Module):
    """[..., F] → [...], one value; computed in float32 whatever the torso's dtype."""

    initializer: str

    @nn.compact
    def __call__(self, features: Array) -> Array:
        kernel_init = INITIALIZERS[self.initializer](1.0)
        return nn.Dense(1, kernel_init=kernel_init)(features.astype(jnp.float32))[..., 0]
