"""The network of an actor and a critic: what each reads, and on which parts it stands.

Each goes encoder → torso → core → head (or encoder → core → torso → head); they share all but the heads, or nothing.
What is the critic's own has a name that begins with `value_`.

Letters in shapes: T steps, N environments, M options of all discrete parts of an action.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl import find
from jaxrl.functional import shares, values
from jaxrl.networks import cores, encoders, heads, torsos
from jaxrl.networks.cores import rows, steps
from jaxrl.types import Array, ConfigError, Key, Network, PyTree, Spec

LIMITS = {
    "hidden_sizes": (1, 65536),
    "value_hidden_sizes": (1, 65536),
    "initializer_gain": (0.0, 1e3),
    "cnn_filters": (1, 65536),
    "cnn_kernels": (1, 1024),
    "cnn_strides": (1, 1024),
    "impala_filters": (1, 65536),
    "core_size": (1, 65536),
    "core_layers": (1, 64),
    "initial_std": (1e-4, 1e4),
    "min_std": (0.0, 1e4),
    "policy_gain": (0.0, 1e3),
    "log_std_bounds": (-20.0, 20.0),
    "value_bins": (2, 65536),
    "value_range": (1e-6, 1e12),
    "value_smoothing": (1e-3, 1e3),
}
CHOICES = {
    "activation": tuple(torsos.ACTIVATIONS),
    "initializer": tuple(torsos.INITIALIZERS),
    "encoder": encoders.ENCODERS,
    "cnn_activation": tuple(torsos.ACTIVATIONS),
    "cnn_padding": ("valid", "same"),
    "core": ("none", *cores.LAYERS),
    "distribution": tuple(heads.DISTRIBUTIONS),
    "log_std": ("free", "state", "fixed"),
    "std_parametrization": tuple(heads.STD_PARAMETRIZATIONS),
    "value_kind": ("point", *values.SPREADS),
    "dtype": ("float32", "bfloat16"),
}


def default_config() -> ConfigDict:
    """The group `network`."""
    config = ConfigDict()
    config.module = ""  # your_package.your_module, whose make(config, spec) gives the network; "" = as below
    config.hidden_sizes = (256, 128, 64)  # of the policy's torso, and of the critic's if it is shared
    config.shared = False  # actor and critic on one torso
    config.value_hidden_sizes = ()  # of the critic's own torso; () = as the policy's
    config.activation = "elu"  # of the torsos
    config.layer_norm = False  # after each activation of the torsos
    config.d2rl = False  # each layer of a torso after the first also sees the torso's input
    config.initializer = "default"  # of the first weights; biases start at 0
    config.initializer_gain = 1.0  # multiplies the first weights, but for the heads'; of `constant`, it is their value
    config.encoder = "auto"  # of each observation that it fits, others are flattened; auto: cnn for [H, W, C]
    config.encoders = ()  # for single keys of the observations, such as ("camera=impala", "critic.map=cnn1d")
    config.cnn_filters = (32, 64, 64)  # of each layer of cnn and cnn1d
    config.cnn_kernels = (8, 4, 3)  # pixels, or steps, that a layer sees in each direction
    config.cnn_strides = (4, 2, 1)  # pixels, or steps, from one place to the next
    config.cnn_padding = "valid"  # same: zeros around the image keep its size, divided by the strides
    config.cnn_activation = "relu"  # of cnn, cnn1d and impala
    config.impala_filters = (16, 32, 32)  # of each stage, which halves the size of the image
    config.core = "none"  # memory of the episode: lstm or gru; actor and critic have one each unless shared
    config.core_size = 256  # numbers in the state of one layer
    config.core_layers = 1  # on top of each other
    config.core_before_torso = False  # encoder, core, torso, head; else encoder, torso, core, head
    config.core_concat_input = False  # the core, behind the torso, also sees what the torso sees
    config.core_concat_output = False  # what the encoder says stands beside the core's output
    config.core_layer_norm = False  # on the core's output
    config.core_keeps_carry = False  # the state lives on when an episode ends
    config.policy_gain = 0.01  # scale of the policy head's first weights: small starts near mean 0
    config.distribution = "normal"  # normal: clipped by the environment; tanh_normal: squashed into (-1, 1)
    config.log_std = "free"  # free: one learned vector; state: from the observation; fixed: stays at initial_std
    config.initial_std = 1.0  # standard deviation of actions at the start
    config.std_parametrization = "exp"  # from a raw number to std: exp, softplus, or linear (itself where it is large)
    config.min_std = 0.0  # std stays above this
    config.log_std_bounds = (-10.0, 2.0)  # of the raw number, with exp
    config.value_kind = "point"  # point: a number; two_hot, hl_gauss: a histogram, learned by its cross-entropy
    config.value_bins = 101  # of the histogram
    config.value_range = 5.0  # centre of its last bin, in normalised units if values are; its first is at minus this
    config.value_smoothing = 0.75  # standard deviation of hl_gauss, in bins
    config.dtype = "float32"  # of encoders, torsos and cores; parameters, heads, carries and losses are float32
    return config


class View(NamedTuple):
    """An observation, sorted by who reads it."""

    policy: dict[str, Array]  # by name
    critic: dict[str, Array]  # by name
    action_mask: Array | None  # bool [..., M], True = allowed


def view(obs: PyTree) -> View:
    """Who reads what of an observation, an array or a dict.

    In a dict `critic`, an array or a dict itself, is what the critic reads in the place of the rest, and `action_mask`
    says which actions are allowed. An array is named `obs`, and what lies in a dict in a dict 'outer.inner'.
    """
    if not isinstance(obs, Mapping):
        obs = {"obs": obs}
    policy = _named({name: x for name, x in obs.items() if name not in ("critic", "action_mask")})
    critic = _named({"critic": obs["critic"]}) if "critic" in obs else policy
    return View(policy, critic, obs.get("action_mask"))


def _named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class Tower(NamedTuple):
    """What lies between observations and a head."""

    encoder: Callable  # observations by name, rows [N·T, ...] -> features [N·T, F]
    torso: Callable  # features -> features
    core: Callable  # (carry, x, features, reset) -> (carry, x)
    core_before_torso: bool

    def __call__(self, carry: PyTree, obs: dict[str, Array], reset: Array) -> tuple[PyTree, Array]:
        """Rows of observations, and reset [T, N] → the carry after them, and features [N·T, F]."""
        features = self.encoder(obs)
        if not self.core_before_torso:
            return self.core(carry, self.torso(features), features, reset)
        carry, x = self.core(carry, features, features, reset)
        return carry, self.torso(x)


class ActorCritic(nn.Module):
    """(carry, View of rows [N·T, ...], reset [T, N]) → (distribution over rows, values of rows, carry)."""

    config: ConfigDict
    kinds: Mapping[str, str]  # of encoders, by the name of their observation
    policy_head: nn.Module
    value_head: nn.Module

    def setup(self):
        config = self.config
        self.policy_tower = self._tower("policy", config.hidden_sizes)
        if not config.shared:
            self.value_tower = self._tower("value", config.value_hidden_sizes or config.hidden_sizes)

    def _tower(self, name, hidden_sizes):
        return Tower(
            encoders.Encoder(self.config, self.kinds, name=f"{name}_encoder"),
            torsos.make(self.config, hidden_sizes, f"{name}_torso"),
            cores.make(self.config, f"{name}_core"),
            self.config.core_before_torso,
        )

    def __call__(self, carry: PyTree, seen: View, reset: Array):
        # The carry is the policy's, followed by the critic's if that is another: (), one, or a pair.
        policy_carry, features = self.policy_tower(carry[:1], seen.policy, reset)
        value_carry, value_features = (), features
        if not self.config.shared:
            value_carry, value_features = self.value_tower(carry[1:], seen.critic, reset)
        distribution = self.policy_head(features, seen.action_mask)
        return distribution, self.value_head(value_features), policy_carry + value_carry

    def value(self, carry: PyTree, seen: View, reset: Array):
        """The critic alone."""
        tower = self.policy_tower if self.config.shared else self.value_tower
        return self.value_head(tower(carry[-1:], seen.critic, reset)[1])


def make(config: ConfigDict, spec: Spec) -> Network:
    """Policy and value for the environments of `spec`: the user's own if the config names a module, or the built-in.

    Args:
        config: the group `network`.
        spec: of the environments.

    Raises:
        ConfigError: the module is not there, or the config and the observations do not go together.
    """
    if not config.module:
        return build(config, spec)
    contract = "make(config, spec) -> jaxrl.types.Network"
    return find.users("networks", config.module, "config.network.module", contract).make(config, spec)


def build(config: ConfigDict, spec: Spec) -> Network:
    """The built-in network; see `make`."""
    seen = view(spec.obs)
    check(config, seen)
    module = ActorCritic(
        config,
        encoders.choose(config, seen.policy | seen.critic),
        heads.make(spec.action, config),
        heads.make_value(config, spec.num_value_heads),
    )

    def init(key: Key):
        obs = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), spec.obs)
        return module.init(key, carry(1), view(obs), jnp.zeros((1, 1), bool))["params"]

    def carry(num: int):
        return sum((cores.start(config, num) for _ in range(1 if config.shared else 2)), ())

    def look(params, carry, obs, reset, method="__call__"):
        seen = view(jax.tree.map(rows, obs))
        return module.apply({"params": params}, carry, seen, reset, method=method)

    def unfold(tree, reset):
        return jax.tree.map(lambda x: steps(x, reset.shape), tree)

    def apply(params, carry, obs, reset):
        distribution, value, carry = look(params, carry, obs, reset)
        return unfold(distribution, reset), unfold(value, reset), carry

    def value(params, carry, obs, reset):
        return unfold(look(params, carry, obs, reset, "value"), reset)

    return by_row(Network(init=init, carry=carry, apply=apply, value=value))


def by_row(network: Network) -> Network:
    """The same network, whose environments [N] have nothing to do with each other: each device computes its own.

    Its gradient is then summed over devices once, also that of weights that are used at every step of a scan.
    """
    inputs = (None, 0, 1, 1)
    apply = shares.locally(network.apply, inputs, (1, 1, 0))
    value = shares.locally(network.value, inputs, 1)
    return network._replace(apply=apply, value=value)


def check(config: ConfigDict, seen: View) -> None:
    """ConfigError unless the parts of the network go together, and with the observations."""
    if config.shared and seen.critic is not seen.policy:
        raise ConfigError(
            "config.network.shared=True cannot be: the environment gives the critic observations of its own; "
            "set it to False, or use an environment without obs['critic']."
        )
    if config.core_before_torso and config.core_concat_input and config.core != "none":
        raise ConfigError(
            "config.network.core_concat_input=True cannot be: with config.network.core_before_torso=True the core "
            "sees the torso's input anyway; set one of them to False."
        )
    if not seen.policy:
        raise ConfigError(
            "config.env cannot be: it shows the policy nothing; its observations need a key besides 'critic' and "
            "'action_mask'."
        )
