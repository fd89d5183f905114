"""Random network distillation: a bonus for observations that a network cannot yet predict another one's features of.

Burda et al. 2018, https://arxiv.org/abs/1810.12894. The target network is random and stays so; the predictor learns
from what the policy meets, so its error is large where the policy has not been.

Letters in shapes: F features.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import torsos
from jaxrl.networks.actor_critic import view
from jaxrl.types import Array, Key, PyTree, Spec

PREDICTOR = "rnd_predictor"  # branches of the parameters
TARGET = "rnd_target"


class Novelty(NamedTuple):
    """How new observations are."""

    init: Callable  # key -> params, a dict of the two branches
    error: Callable  # (params, obs [..., *sample]) -> [...], squared error of the prediction, mean over the features


def make(hidden_sizes: tuple[int, ...], num_features: int, spec: Spec) -> Novelty:
    """Predictor and target for the observations of `spec`, of which they see what the policy does.

    Args:
        hidden_sizes: of both networks; the predictor has one layer more, as in the paper.
        num_features: F.
        spec: of the environments.
    """
    sizes = {TARGET: (*hidden_sizes, num_features), PREDICTOR: (*hidden_sizes, hidden_sizes[-1], num_features)}
    nets = {name: _Features(widths) for name, widths in sizes.items()}
    ndims = {name: len(leaf.shape) for name, leaf in view(spec.obs).policy.items()}

    def vector(obs):
        leaves = view(obs).policy
        flat = [x.reshape(*x.shape[: x.ndim - ndims[name]], -1).astype(jnp.float32) for name, x in leaves.items()]
        return torsos.join(*flat)

    def init(key: Key) -> PyTree:
        obs = vector(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), spec.obs))
        keys = jax.random.split(key, len(nets))
        return {name: net.init(key, obs)["params"] for (name, net), key in zip(nets.items(), keys, strict=True)}

    def error(params: PyTree, obs: PyTree) -> Array:
        x = vector(obs)
        predicted, target = (nets[name].apply({"params": params[name]}, x) for name in (PREDICTOR, TARGET))
        return jnp.mean(jnp.square(predicted - jax.lax.stop_gradient(target)), axis=-1)

    return Novelty(init, error)


class _Features(nn.Module):
    """[..., D] → [..., F]."""

    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.sizes[:-1]:
            x = nn.relu(nn.Dense(size, kernel_init=torsos.INITIALIZERS["orthogonal"]())(x))
        return nn.Dense(self.sizes[-1], kernel_init=torsos.INITIALIZERS["orthogonal"]())(x)
