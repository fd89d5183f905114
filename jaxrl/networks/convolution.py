"""Convolution whose gradient is fast on CPUs too.

Letters in shapes: R rows, C channels in, D channels out.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl.types import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, strides: Sequence[int], padding: str | Sequence[tuple[int, int]]) -> Array:
    """Cross-correlation of [R, H, W, C] with [h, w, C, D] → [R, H', W', D], or of [R, L, C] with [l, C, D].

    On a CPU its gradient goes by `unfolded`: inside a loop, where training always is, XLA's own took 10 to 20 times
    as long (jax 0.10).

    Args:
        strides: one for each axis between rows and channels.
        padding: "VALID", "SAME", or (before, after) for each such axis.
    """
    return _native(x, kernel, strides, padding)


def unfolded(x: Array, kernel: Array, strides: Sequence[int], padding: str | Sequence[tuple[int, int]]) -> Array:
    """The same as one matrix product, of what each place of the kernel sees with the kernel as [h·w·C, D]."""
    *window, _, filters = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    sizes = [(size - width) // stride + 1 for size, width, stride in zip(x.shape[1:-1], window, strides, strict=True)]

    def seen_from(place):
        stops = [start + (size - 1) * stride + 1 for start, size, stride in zip(place, sizes, strides, strict=True)]
        return lax.slice(x, (0, *place, 0), (x.shape[0], *stops, x.shape[-1]), (1, *strides, 1))

    seen = [seen_from(place) for place in itertools.product(*map(range, window))]
    return jnp.concatenate(seen, axis=-1) @ kernel.reshape(-1, filters)


def _native(x, kernel, strides, padding):
    channels_last = {3: ("NHC", "HIO", "NHC"), 4: ("NHWC", "HWIO", "NHWC")}[x.ndim]
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=channels_last)


def _forward(x, kernel, strides, padding):
    return convolve(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, saved, slope):
    def through(form):
        return lambda slope, *inputs: jax.vjp(lambda *inputs: form(*inputs, strides, padding), *inputs)[1](slope)

    return lax.platform_dependent(slope, *saved, cpu=through(unfolded), default=through(_native))


convolve.defvjp(_forward, _backward)


def for_flax(lhs, rhs, window_strides, padding, **rest):
    """`convolve` with the arguments that flax's nn.Conv gives; the rest says that nothing is dilated or grouped."""
    del rest
    padding = padding if isinstance(padding, str) else tuple(map(tuple, padding))
    return convolve(lhs, rhs, tuple(window_strides), padding)
