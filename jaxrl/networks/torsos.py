"""Torsos: what turns an observation into features."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array

ACTIVATIONS: dict[str, Callable] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "elu": nn.elu,
    "selu": nn.selu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "softplus": nn.softplus,
}

INITIALIZERS: dict[str, Callable] = {
    # Var = gain² / (3 fan_in): what torch gives a Linear layer, and so what rl_games calls `default`.
    "default": lambda gain=1.0: nn.initializers.variance_scaling(gain**2 / 3, "fan_in", "uniform"),
    "lecun": lambda gain=1.0: nn.initializers.variance_scaling(gain**2, "fan_in", "uniform"),
    "glorot": lambda gain=1.0: nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform"),
    "kaiming": lambda gain=1.0: nn.initializers.variance_scaling(2 * gain**2, "fan_in", "truncated_normal"),
    "orthogonal": lambda gain=2**0.5: nn.initializers.orthogonal(gain),
}


class MLP(nn.Module):
    """Dense layers, each followed by the activation; [..., F] → [..., hidden_sizes[-1]]."""

    hidden_sizes: Sequence[int]
    activation: str
    initializer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.hidden_sizes:
            x = nn.Dense(size, kernel_init=INITIALIZERS[self.initializer](), dtype=self.dtype)(x)
            x = ACTIVATIONS[self.activation](x)
        return x


def flatten(obs: jax.Array, sample_ndim: int) -> Array:
    """[..., *sample] → [..., F], the observation of each step as one vector."""
    return obs.reshape(*obs.shape[: obs.ndim - sample_ndim], -1)
