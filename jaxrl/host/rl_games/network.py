"""The rules from rl_games' keys to ours for the network, and what of a network has no rule."""

import math

from jaxrl.host.rl_games.rules import HIDDEN, Rule, flag, has_critic, is_discrete, number, one_of, only_a_name, whole
from jaxrl.host.rl_games.source import Source

ACTIVATIONS = {name: name for name in ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "softplus")}
ACTIVATIONS |= {"swish": "silu", "ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus"}
CORES = {"lstm": "lstm", "gru": "gru"}
MODELS = {  # their distribution here; None where the action space says it
    "continuous_a2c": "normal",
    "continuous_a2c_logstd": "normal",
    "continuous_a2c_tanh": "tanh_normal",
    "discrete_a2c": None,
    "multi_discrete_a2c": None,
}
SPACE = "network.space.continuous"
INITIALIZERS = {  # ours, and the gain of a head that comes to the same: the key that has it, its default, gain of that
    "default": ("default", "", 1.0, lambda number: 1.0),
    "orthogonal_initializer": ("orthogonal", "gain", 1.0, float),
    "orthogonal": ("orthogonal", "gain", 1.0, float),
    "glorot_normal_initializer": ("glorot_normal", "gain", 1.0, float),
    "glorot_uniform_initializer": ("glorot", "gain", 1.0, float),
    "variance_scaling_initializer": ("kaiming", "scale", 2.0, lambda scale: math.sqrt(max(scale, 0.0) / 2)),
    "kaiming_normal": ("kaiming", "", 1.0, lambda number: 1.0),
    "const_initializer": ("constant", "val", 0.0, float),
}


def initializer(source: Source, key: str) -> tuple[str, float]:
    """(our initialiser, the gain of a head of it) for a block with a name; the default's where we have none."""
    name, part, usual, gain = INITIALIZERS.get(str(source.get(f"{key}.name")), INITIALIZERS["default"])
    return name, round(gain(source.number(f"{key}.{part}", usual)), 4)


def torso_gain(source: Source, _: str) -> float:
    """Of initializer_gain, which multiplies what an initialiser does by itself: √2 times orthonormal for ours."""
    name, gain = initializer(source, "network.mlp.initializer")
    return round(gain / math.sqrt(2), 4) if name == "orthogonal" else gain


def policy_gain(source: Source, _: str) -> float:
    """mu_init's; `default` there leaves the head to begin like the rest, as discrete ones always do."""
    own = str(source.get(f"{SPACE}.mu_init.name", "default"))
    is_own = not is_discrete(source) and own != "default" and own in INITIALIZERS
    return initializer(source, f"{SPACE}.mu_init" if is_own else "network.mlp.initializer")[1]


def shared(source: Source, key: str) -> bool:
    return not (source.flag(key) or has_critic(source))


def hidden_sizes(source: Source, key: str) -> tuple[int, ...] | None:
    return source.wholes(key) if source.has(key) else None


def fused_sizes(source: Source, key: str) -> tuple[int, ...] | None:
    """Of tiny-cuda-nn's fully fused MLP."""
    return (source.whole(key),) * source.whole("network.network.n_hidden_layers", 2) if source.has(key) else None


def value_hidden_sizes(source: Source, key: str) -> tuple[int, ...]:
    sizes = source.wholes(key)
    return () if sizes == source.wholes("network.mlp.units") else sizes


def encoder(source: Source, _: str) -> str | None:
    if source.get("network.name") == "resnet_actor_critic":
        return "impala"
    return "cnn1d" if source.get("network.cnn.type") == "conv1d" else None  # auto chooses cnn for images


def convolutions(part: str, usual: int) -> tuple:
    """The rule for one number of all layers; of (8, 8) the first."""

    def rule(source, key):
        layers = source.get("network.cnn.convs")
        if not isinstance(layers, list):
            return None
        values = [layer.get(part, usual) if isinstance(layer, dict) else usual for layer in layers]
        return tuple(value[0] if isinstance(value, list) and value else value for value in values)

    return rule


def padding(source: Source, key: str) -> str | None:
    layers = convolutions("padding", 0)(source, key)
    return "same" if layers and any(layers) else None


def log_std(source: Source, key: str) -> str | None:
    if is_discrete(source):
        return None
    return "free" if source.flag(key, True) else "state"


def initial_std(source: Source, _: str) -> float | None:
    if is_discrete(source):
        return None
    key = f"{SPACE}.sigma_init"
    return round(math.exp(min(source.number(f"{key}.val", source.number(f"{key}.value", 0.0)), 99.0)), 6)


def log_std_bounds(source: Source, key: str) -> tuple | None:
    return tuple(source.get(key)) if isinstance(source.get(key), list) else None


RULES = (
    Rule("network.separate", "network.shared", shared, " (the opposite)"),
    Rule("network.mlp.units", "network.hidden_sizes", hidden_sizes),
    Rule("network.network.n_neurons", "network.hidden_sizes", fused_sizes, HIDDEN),
    Rule("central_value_config.network.mlp.units", "network.value_hidden_sizes", value_hidden_sizes),
    Rule("network.mlp.activation", "network.activation", one_of(ACTIVATIONS, None)),
    Rule("network.network.activation", "network.activation", one_of(ACTIVATIONS, None), HIDDEN),
    Rule(
        "network.normalization",
        "network.layer_norm",
        lambda source, key: source.get(key) == "layer_norm",
        ": layer_norm",
    ),
    Rule("network.mlp.d2rl", "network.d2rl", flag),
    Rule(
        "network.mlp.initializer.name",
        "network.initializer",
        lambda source, key: initializer(source, "network.mlp.initializer")[0],
    ),
    Rule("network.mlp.initializer.gain", "network.initializer_gain", torso_gain),
    Rule("network.mlp.initializer.name", "network.initializer_gain", torso_gain, HIDDEN),
    Rule("network.cnn.type", "network.encoder", encoder),
    Rule("network.name", "network.encoder", encoder, ": resnet_actor_critic"),
    Rule("network.cnn.convs", "network.cnn_filters", convolutions("filters", 32), "[].filters"),
    Rule("network.cnn.convs", "network.cnn_kernels", convolutions("kernel_size", 3), "[].kernel_size"),
    Rule("network.cnn.convs", "network.cnn_strides", convolutions("strides", 1), "[].strides"),
    Rule("network.cnn.convs", "network.cnn_padding", padding, "[].padding"),
    Rule("network.cnn.activation", "network.cnn_activation", one_of(ACTIVATIONS, None)),
    Rule("network.cnn.conv_depths", "network.impala_filters", hidden_sizes),
    Rule("network.rnn.name", "network.core", one_of(CORES, "none")),
    Rule("network.rnn.units", "network.core_size", whole),
    Rule("network.rnn.layers", "network.core_layers", whole),
    Rule("network.rnn.before_mlp", "network.core_before_torso", flag),
    Rule("network.rnn.concat_input", "network.core_concat_input", flag),
    Rule("network.rnn.concat_output", "network.core_concat_output", flag),
    Rule("network.rnn.layer_norm", "network.core_layer_norm", flag),
    Rule(
        "zero_rnn_on_done",
        "network.core_keeps_carry",
        lambda source, key: not source.flag(key, True),
        " (the opposite)",
    ),
    Rule(f"{SPACE}.mu_init", "network.policy_gain", policy_gain),
    Rule(
        "params.model.name",
        "network.distribution",
        one_of(MODELS, None),
        ": continuous_a2c_logstd, continuous_a2c_tanh",
    ),
    Rule(f"{SPACE}.fixed_sigma", "network.log_std", log_std),
    Rule(f"{SPACE}.sigma_init", "network.initial_std", initial_std, " (its logarithm)"),
    Rule(
        f"{SPACE}.sigma_parametrization",
        "network.std_parametrization",
        one_of({"softplus": "softplus", "linear": "linear", "scalar": "linear"}, None),
    ),
    Rule(f"{SPACE}.min_sigma", "network.min_std", number),
    Rule(f"{SPACE}.logstd_bounds", "network.log_std_bounds", log_std_bounds),
    Rule("network.name", "network.module", only_a_name, ", registered by import_modules"),
    Rule("mixed_precision", "network.dtype", lambda source, key: "bfloat16" if source.flag(key) else None),
    Rule("network.require_last_actions", "env.last_action", flag),
    Rule("network.require_rewards", "env.last_reward", flag),
)
