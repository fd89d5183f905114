"""The network of an actor and a critic, on one torso or on two."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.networks import heads, torsos
from jaxrl.types import Array, Key, Network, Spec

LIMITS = {
    "hidden_sizes": (1, 65536),
    "value_hidden_sizes": (1, 65536),
    "initial_std": (1e-4, 1e4),
    "policy_gain": (0.0, 1e3),
    "log_std_bounds": (-20.0, 20.0),
}
CHOICES = {
    "activation": tuple(torsos.ACTIVATIONS),
    "initializer": tuple(torsos.INITIALIZERS),
    "distribution": tuple(heads.DISTRIBUTIONS),
    "log_std": ("free", "state", "fixed"),
    "dtype": ("float32", "bfloat16"),
}


def default_config() -> ConfigDict:
    """The group `network`."""
    config = ConfigDict()
    config.hidden_sizes = (256, 128, 64)  # of the policy's torso, and of the critic's if it is shared
    config.shared = False  # actor and critic on one torso
    config.value_hidden_sizes = ()  # of the critic's own torso; () = as the policy's
    config.activation = "elu"
    config.initializer = "default"
    config.policy_gain = 0.01  # scale of the policy head's first weights: small starts near mean 0
    config.distribution = "normal"  # normal: clipped by the environment; tanh_normal: squashed into (-1, 1)
    config.log_std = "free"  # free: one learned vector; state: from the observation; fixed: stays at initial_std
    config.initial_std = 1.0
    config.log_std_bounds = (-10.0, 2.0)
    config.dtype = "float32"  # of the torsos' computation; parameters, heads and losses are float32
    return config


class ActorCritic(nn.Module):
    """obs [..., *sample] → (distribution over [..., A], value [...])."""

    config: ConfigDict
    action_size: int
    sample_ndim: int

    def setup(self):
        config = self.config
        torso = lambda sizes, name: torsos.MLP(  # noqa: E731
            tuple(sizes), config.activation, config.initializer, jnp.dtype(config.dtype), name=name
        )
        self.policy_torso = torso(config.hidden_sizes, "policy_torso")
        if not config.shared:
            self.value_torso = torso(config.value_hidden_sizes or config.hidden_sizes, "value_torso")
        self.policy_head = heads.GaussianHead(
            self.action_size,
            config.distribution,
            config.log_std,
            config.initial_std,
            tuple(config.log_std_bounds),
            config.initializer,
            config.policy_gain,
        )
        self.value_head = heads.ValueHead(config.initializer)

    def __call__(self, obs: Array):
        x = torsos.flatten(obs, self.sample_ndim)
        features = self.policy_torso(x)
        value_features = features if self.config.shared else self.value_torso(x)
        return self.policy_head(features), self.value_head(value_features)

    def value(self, obs: Array) -> Array:
        x = torsos.flatten(obs, self.sample_ndim)
        return self.value_head(self.policy_torso(x) if self.config.shared else self.value_torso(x))


def make(config: ConfigDict, spec: Spec) -> Network:
    """Policy and value for the environments of `spec`; config is the group `network`."""
    module = ActorCritic(config, spec.action.shape[0], len(spec.obs.shape))

    def init(key: Key):
        return module.init(key, jnp.zeros((1, *spec.obs.shape)))["params"]

    def apply(params, carry, obs, reset):
        distribution, value = module.apply({"params": params}, rows(obs))
        return jax.tree.map(lambda x: steps(x, reset.shape), distribution), steps(value, reset.shape), carry

    def value(params, carry, obs, reset):
        del carry
        return steps(module.apply({"params": params}, rows(obs), method="value"), reset.shape)

    return Network(init=init, carry=lambda num_envs: (), apply=apply, value=value)


def rows(x: Array) -> Array:
    """[T, N, ...] → [N·T, ...].

    A matrix product over one leading axis is up to twice as fast as over two, whose gradient has to transpose them.
    Environments come first because they are what devices share: their rows stay where they are.
    """
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def steps(x: Array, shape: tuple[int, int]) -> Array:
    """[N·T, ...] → [T, N, ...], the inverse of `rows`; shape: (T, N)."""
    return jnp.swapaxes(x.reshape(shape[1], shape[0], *x.shape[1:]), 0, 1)
