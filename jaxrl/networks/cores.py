"""Cores: recurrent layers, LSTM and GRU, which remember from step to step of an episode.

A core takes and gives *rows* [N·T, ...], as the feed-forward parts do, and scans over *steps* [T, N, ...] inside.
What the input says to the gates is one matrix product over all rows before the scan; only what the state says to
them, and the gates' own arithmetic, has to wait for the step before.

Letters in shapes: T steps, N environments, F features, H `size`, G gates.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.networks import torsos
from jaxrl.types import Array, PyTree

UNROLL = 2  # steps of the scan in one turn of its loop; more gain nothing but time to compile (on a CPU)


class Layer(nn.Module):
    """One recurrent layer, (state, rows [N·T, F], reset [T, N]) → (state, rows [N·T, H]).

    Matrix products are of `dtype`; the gates and the state, which sums over an episode, are float32. Input and state
    have a bias each, as in torch, whose gates stand in the same order.

    A kind of layer adds `num_gates`, `num_states`, `bias_init` of the input's bias, and `cell`: (state, what the
    input says to each gate, what the state says to each), all [N, H] → the next state, first what others see of it.
    """

    size: int
    restart: Callable  # (state, reset [N]) -> state with which the step begins
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, state: PyTree, x: Array, reset: Array) -> tuple[PyTree, Array]:
        width = self.num_gates * self.size
        kernel_init = per_gate(self.kernel_init, self.num_gates)
        from_input = nn.Dense(width, kernel_init=kernel_init, bias_init=self.bias_init, dtype=self.dtype, name="input")
        kernel = self.param("state_kernel", kernel_init, (self.size, width)).astype(self.dtype)
        bias = self.param("state_bias", nn.initializers.zeros, (width,))

        def step(state, inputs):
            from_input, reset = inputs
            state = self.restart(state, reset)
            from_state = jnp.dot(state[0].astype(self.dtype), kernel, preferred_element_type=jnp.float32) + bias
            from_input = [x.astype(jnp.float32) for x in from_input]
            state = self.cell(state, from_input, jnp.split(from_state, self.num_gates, axis=-1))
            return state, state[0].astype(self.dtype)

        # Cut into gates here and not in the loop, where XLA's code for it on a CPU takes half as long again.
        gates = jnp.split(steps(from_input(x), reset.shape), self.num_gates, axis=-1)
        state, hidden = jax.lax.scan(step, state, (gates, reset), unroll=UNROLL)
        return state, rows(hidden)


class LSTM(Layer):
    """Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; state (h, c), each [N, H].

    i, f, o = σ(W x + U h + b), g = tanh(W x + U h + b);  c ← f c + i g,  h ← o tanh(c).
    The forget gate's bias starts at 1: Jozefowicz et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15.html.
    """

    num_gates = 4
    num_states = 2

    @staticmethod
    def bias_init(key, shape, dtype=jnp.float32):
        del key
        return jnp.repeat(jnp.asarray([0, 1, 0, 0], dtype), shape[0] // 4)

    @staticmethod
    def cell(state, from_input, from_state):
        input_, forget, new, output = (x + h for x, h in zip(from_input, from_state, strict=True))
        memory = nn.sigmoid(forget) * state[1] + nn.sigmoid(input_) * jnp.tanh(new)
        return nn.sigmoid(output) * jnp.tanh(memory), memory


class GRU(Layer):
    """Cho et al. 2014, https://arxiv.org/abs/1406.1078, in the form of cuDNN and torch; state (h,), [N, H].

    r, z = σ(W x + U h + b), n = tanh(W x + b + r (U h + b'));  h ← (1 - z) n + z h.
    """

    num_gates = 3
    num_states = 1
    bias_init = staticmethod(nn.initializers.zeros)

    @staticmethod
    def cell(state, from_input, from_state):
        reset, update = (nn.sigmoid(x + h) for x, h in zip(from_input[:2], from_state[:2], strict=True))
        new = jnp.tanh(from_input[2] + reset * from_state[2])
        return ((1 - update) * new + update * state[0],)


LAYERS = {"lstm": LSTM, "gru": GRU}


class Core(nn.Module):
    """Recurrent layers on top of each other, as the group `network` wishes; see `skip` for what takes its place."""

    config: ConfigDict

    @nn.compact
    def __call__(self, carry: PyTree, x: Array, features: Array, reset: Array) -> tuple[PyTree, Array]:
        """One pass over T steps.

        Args:
            carry: as `start` gives it, before the first step.
            x: [N·T, F] what the core reads.
            features: [N·T, F'] what the encoder made of the observations, for the concatenations.
            reset: [T, N] bool, the carry is as `start` gives it before step t (unless the config keeps it).

        Returns:
            The carry after the last step, and [N·T, H] (or H + F') features.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        layer = LAYERS[config.core]
        restart = keep if config.core_keeps_carry else start_again
        kernel_init = torsos.scaled(torsos.INITIALIZERS[config.initializer](1.0), config.initializer_gain)
        x = torsos.join(x, features) if config.core_concat_input else x
        (states,) = carry
        ends = []
        for state in states:
            state, x = layer(config.core_size, restart, kernel_init, dtype, name=f"layer_{len(ends)}")(state, x, reset)
            ends.append(state)
        x = torsos.norm(dtype, "norm")(x) if config.core_layer_norm else x
        x = torsos.join(x, features) if config.core_concat_output else x
        return (tuple(ends),), x


def make(config: ConfigDict, name: str) -> Callable:
    """The core of that name: (carry, x, features, reset) → (carry, x)."""
    return Core(config, name=name) if config.core in LAYERS else skip


def skip(carry: PyTree, x: Array, features: Array, reset: Array) -> tuple[PyTree, Array]:
    """No core: what comes in goes out."""
    del features, reset
    return carry, x


def start(config: ConfigDict, num: int) -> tuple:
    """The carry of one core before anything happened: (states of its layers,) of zeros [num, H]; () without a core.

    A tuple of one, so that the carries of several cores are their sum and those of none are ().
    """
    if config.core not in LAYERS:
        return ()
    # Each an array of its own: a buffer that is donated must not stand in two places.
    state = lambda: tuple(jnp.zeros((num, config.core_size)) for _ in range(LAYERS[config.core].num_states))  # noqa: E731
    return (tuple(state() for _ in range(config.core_layers)),)


def start_again(state: PyTree, reset: Array) -> PyTree:
    """The state with zeros where an episode begins; no gradient flows across."""
    return jax.tree.map(lambda x: jnp.where(reset[:, None], 0.0, x), state)


def keep(state: PyTree, reset: Array) -> PyTree:
    """The state as the last episode left it."""
    del reset
    return state


def per_gate(initializer: Callable, num_gates: int) -> Callable:
    """An initialiser of [F, G·H] that draws each gate's [F, H] by itself, so that its widths are a gate's."""

    def init(key, shape, dtype=jnp.float32):
        inputs, width = shape
        keys = jax.random.split(key, num_gates)
        return jnp.concatenate([initializer(key, (inputs, width // num_gates), dtype) for key in keys], axis=1)

    return init


def rows(x: Array) -> Array:
    """[T, N, ...] → [N·T, ...].

    A matrix product over one leading axis is up to twice as fast as over two, whose gradient has to transpose them.
    Environments come first because they are what devices share: their rows stay where they are.
    """
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def steps(x: Array, shape: tuple[int, int]) -> Array:
    """[N·T, ...] → [T, N, ...], the inverse of `rows`; shape: (T, N)."""
    return jnp.swapaxes(x.reshape(shape[1], shape[0], *x.shape[1:]), 0, 1)
