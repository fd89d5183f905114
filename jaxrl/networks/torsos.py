"""Torsos: what turns the features of an observation into features of the task; also activations and initialisers."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.networks import dense
from jaxrl.types import Array, Key


@jax.custom_jvp
def elu(x: Array) -> Array:
    """x above 0, eˣ - 1 below; Clevert et al. 2016, https://arxiv.org/abs/1511.07289.

    With a slope of its own, made of the result: a fifth off the gradient of an MLP on a CPU, where jax.nn.elu works
    out expm1 once more on the way back. Near 0 it has the digits of float32 around 1, which is enough between layers.
    """
    wide = x.astype(jnp.float32)  # the difference would have no digits left in bfloat16
    return jnp.maximum(wide, jnp.exp(jnp.minimum(wide, 0.0)) - 1.0).astype(x.dtype)


@elu.defjvp
def _elu_slope(primals, tangents):
    y = elu(*primals)
    return y, tangents[0] * jnp.minimum(y + 1.0, 1.0)


ACTIVATIONS: dict[str, Callable] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "elu": elu,
    "selu": nn.selu,
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "softplus": nn.softplus,
}


def orthogonal(gain: float = 2**0.5) -> Callable:
    """An initialiser whose matrices have orthonormal columns, or rows if those are fewer, times `gain`.

    Saxe et al. 2014, https://arxiv.org/abs/1312.6120. By Gram-Schmidt in place of LAPACK's QR, which gives the same
    numbers but for rounding: several QRs of a batch at once hang on CPUs (jax 0.10), and seeds are a batch.
    """

    def initializer(key: Key, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        basis = _orthonormalize(jax.random.normal(key, (max(rows, columns), min(rows, columns))))
        matrix = basis if rows >= columns else basis.T
        return (gain * matrix).reshape(shape).astype(dtype)

    return initializer


def _orthonormalize(matrix: Array) -> Array:
    """[m, n] with m ≥ n → orthonormal columns that span the same; each is cleared of those before it twice over."""

    def one(basis, index):
        column = matrix[:, index]
        for _ in range(2):  # once leaves the rounding errors of nearly parallel columns
            column = column - basis @ (basis.T @ column)
        return basis.at[:, index].set(column / jnp.linalg.norm(column)), None

    return jax.lax.scan(one, jnp.zeros_like(matrix), jnp.arange(matrix.shape[1]))[0]


INITIALIZERS: dict[str, Callable] = {
    # Var = gain² / (3 fan_in): what torch gives a Linear layer, and so what rl_games calls `default`.
    "default": lambda gain=1.0: nn.initializers.variance_scaling(gain**2 / 3, "fan_in", "uniform"),
    "lecun": lambda gain=1.0: nn.initializers.variance_scaling(gain**2, "fan_in", "uniform"),
    "glorot": lambda gain=1.0: nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform"),
    "glorot_normal": lambda gain=1.0: nn.initializers.variance_scaling(gain**2, "fan_avg", "normal"),
    "kaiming": lambda gain=1.0: nn.initializers.variance_scaling(2 * gain**2, "fan_in", "truncated_normal"),
    "orthogonal": orthogonal,
    "constant": lambda gain=1.0: nn.initializers.constant(gain),
}

NORM_EPSILON = 1e-5  # added to the variance in a layer norm, as torch does


class MLP(nn.Module):
    """Dense layers, each followed by the activation; [..., F] → [..., hidden_sizes[-1]].

    With `layer_norm` each activation is followed by a layer norm (Ba et al. 2016, https://arxiv.org/abs/1607.06450);
    that it stands behind the activation is rl_games' way. With `d2rl` every layer after the first also sees the
    input, behind what the layer before made of it (Sinha et al. 2020, https://arxiv.org/abs/2010.09163).
    """

    hidden_sizes: Sequence[int]
    activation: str
    initializer: str
    dtype: jnp.dtype
    layer_norm: bool = False
    d2rl: bool = False
    gain: float = 1.0  # multiplies the first weights

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel_init = scaled(INITIALIZERS[self.initializer](), self.gain)
        again = (x,) if self.d2rl else ()
        for layer, size in enumerate(self.hidden_sizes):
            x = join(x, *again) if layer else x
            x = nn.Dense(size, kernel_init=kernel_init, dtype=self.dtype, dot_general=dense.for_flax)(x)
            x = ACTIVATIONS[self.activation](x)
            x = norm(self.dtype)(x) if self.layer_norm else x
        return x


def make(config: ConfigDict, hidden_sizes: Sequence[int], name: str) -> MLP:
    """The torso of that name, as the group `network` wishes."""
    return MLP(
        tuple(hidden_sizes),
        config.activation,
        config.initializer,
        jnp.dtype(config.dtype),
        config.layer_norm,
        config.d2rl,
        config.initializer_gain,
        name=name,
    )


def scaled(initializer: Callable, gain: float) -> Callable:
    """An initialiser whose numbers are multiplied by `gain`."""
    return lambda key, shape, dtype=jnp.float32: gain * initializer(key, shape, dtype)


def norm(dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """A layer norm over the last axis; its mean and variance are float32 whatever the dtype of its output."""
    return nn.LayerNorm(epsilon=NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)


def join(*features: Array) -> Array:
    """[..., F1], [..., F2], ... → [..., F1 + F2 + ...]; of one alone, itself."""
    return features[0] if len(features) == 1 else jnp.concatenate(features, axis=-1)
