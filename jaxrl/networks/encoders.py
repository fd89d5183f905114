"""Encoders: what turns observations of any shape and dtype into features, one encoder for each key.

Letters in shapes: R rows (steps of environments), H height, W width, L length, C channels, F features.
"""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.networks import convolution, torsos
from jaxrl.types import Array, ConfigError

# The axes of one observation that an encoder reads; `flatten` reads any.
AXES = {"cnn": "[H, W, C]", "cnn1d": "[L, C]", "impala": "[H, W, C]"}
ENCODERS = ("auto", "flatten", *AXES)


class Encoder(nn.Module):
    """Observations by name, each [R, ...] → [R, F], the features of all of them in the order of the names."""

    config: ConfigDict  # the group `network`
    kinds: Mapping[str, str]  # name of the observation → name of its encoder, as `choose` gives them

    @nn.compact
    def __call__(self, obs: dict[str, Array]) -> Array:
        dtype = jnp.dtype(self.config.dtype)
        encode = {name: MODULES[self.kinds[name]](self.config, name=name) for name in sorted(obs)}
        return torsos.join(*(encode[name](to_float(obs[name], dtype)) for name in encode))


class CNN(nn.Module):
    """Convolutions, each followed by the activation; [R, H, W, C] or [R, L, C] → [R, F].

    The default sizes are those of Mnih et al. 2015, https://doi.org/10.1038/nature14236, without its dense layer:
    that is the torso's part.
    """

    config: ConfigDict

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config, space = self.config, x.ndim - 2
        activate, layer = torsos.ACTIVATIONS[config.cnn_activation], _layer(config)
        padding = config.cnn_padding.upper()
        for filters, kernel, stride in zip(config.cnn_filters, config.cnn_kernels, config.cnn_strides, strict=True):
            x = activate(layer(filters, (kernel,) * space, (stride,) * space, padding)(x))
        return flatten(x)


class Impala(nn.Module):
    """The deeper residual network of Espeholt et al. 2018, figure 3, https://arxiv.org/abs/1802.01561.

    Stages of convolution, max-pooling to half the size and two residual blocks; [R, H, W, C] → [R, F]. Its dense
    layer is the torso's part.
    """

    config: ConfigDict

    @nn.compact
    def __call__(self, x: Array) -> Array:
        activate, layer = torsos.ACTIVATIONS[self.config.cnn_activation], _layer(self.config)
        for filters in self.config.impala_filters:
            x = nn.max_pool(layer(filters, (3, 3))(x), (3, 3), (2, 2), "SAME")
            for _ in range(2):
                inner = layer(filters, (3, 3))(activate(x))
                x = x + layer(filters, (3, 3))(activate(inner))
        return flatten(activate(x))


def _layer(config):
    """nn.Conv with the config's dtype and first weights."""
    kernel_init = torsos.scaled(torsos.INITIALIZERS[config.initializer](), config.initializer_gain)
    dtype = jnp.dtype(config.dtype)
    return functools.partial(nn.Conv, kernel_init=kernel_init, dtype=dtype, conv_general_dilated=convolution.for_flax)


def flatten(x: Array) -> Array:
    """[R, ...] → [R, F], each row as one vector."""
    return x.reshape(x.shape[0], -1)


MODULES = {"flatten": lambda config, name: flatten, "cnn": CNN, "cnn1d": CNN, "impala": Impala}


def to_float(x: Array, dtype: jnp.dtype) -> Array:
    """An observation as the networks compute: uint8 from [0, 255] to [0, 1], other numbers as they are."""
    if x.dtype == jnp.uint8:
        x = x.astype(jnp.float32) * (1 / 255)
    return x.astype(dtype)


def choose(config: ConfigDict, obs: dict[str, jax.ShapeDtypeStruct]) -> dict[str, str]:
    """The name of every observation's encoder.

    Args:
        config: the group `network`.
        obs: the shape of one observation by name, without leading axes.

    Raises:
        ConfigError: a key of `encoders` that does not exist, an encoder that does not exist or cannot read the
            shape, sizes of the CNN that do not belong together or leave nothing of an image.
    """
    _check_lengths(config)
    named = _named(config, obs)
    rest = {name: x for name, x in obs.items() if name not in named}
    kinds = {name: _fitting(config.encoder, x) for name, x in rest.items()}
    if rest and config.encoder != "auto" and config.encoder not in kinds.values():
        shown = ", ".join(f"{name!r} {x.shape}" for name, x in rest.items())
        raise ConfigError(
            f"config.network.encoder={config.encoder!r} reads {AXES[config.encoder]}, which none of the "
            f"observations is: {shown}; set it to 'auto' or 'flatten'."
        )
    kinds |= named
    for name, kind in kinds.items():
        if kind in ("cnn", "cnn1d"):
            _check_size(config, name, obs[name].shape)
    return kinds


def _fitting(kind, x):
    """The encoder that `kind` means for one observation: flatten for what it cannot read."""
    kind = "cnn" if kind == "auto" else kind
    return kind if _reads(kind, x) else "flatten"


def _reads(kind, x):
    """Whether an encoder can read one observation."""
    return kind not in AXES or len(x.shape) == len(AXES[kind].split(","))


def _named(config, obs):
    """What `encoders` says, {name: encoder}."""
    named = {}
    for text in config.encoders:
        setting = f"config.network.encoders={text!r}"
        name, equals, kind = str(text).rpartition("=")
        if not equals:
            raise ConfigError(f"{setting} must be a key and its encoder, such as '{next(iter(obs))}=flatten'.")
        if name not in obs:
            raise ConfigError(
                f"{setting}: there is no observation {name!r}; choose of {', '.join(repr(n) for n in obs)}."
            )
        if kind not in ENCODERS:
            raise ConfigError(f"{setting}: there is no encoder {kind!r}; choose of {', '.join(ENCODERS)}.")
        if not _reads(kind, obs[name]):
            raise ConfigError(
                f"{setting}: {kind} reads {AXES[kind]}, but {name!r} is {obs[name].shape}; use '{name}=flatten'."
            )
        named[name] = _fitting(kind, obs[name])
    return named


def _check_lengths(config):
    sizes = {name: tuple(config[name]) for name in ("cnn_filters", "cnn_kernels", "cnn_strides")}
    if len({len(size) for size in sizes.values()}) > 1:
        given = ", ".join(f"config.network.{name}={size}" for name, size in sizes.items())
        raise ConfigError(f"{given} must be equally long, one number for each layer; lengthen the shorter.")


def _check_size(config, name, shape):
    """Whether the CNN leaves anything of an observation of that shape."""
    if config.cnn_padding == "same":
        return
    sizes = shape[:-1]
    for kernel, stride in zip(config.cnn_kernels, config.cnn_strides, strict=True):
        sizes = [(size - kernel) // stride + 1 for size in sizes]
    if min(sizes) < 1:
        raise ConfigError(
            f"config.network.cnn_kernels={tuple(config.cnn_kernels)} with cnn_strides={tuple(config.cnn_strides)} "
            f"leave nothing of the observation {name!r} of shape {shape}; set config.network.cnn_padding='same', or "
            "smaller ones such as cnn_filters=(16,), cnn_kernels=(3,), cnn_strides=(1,)."
        )
