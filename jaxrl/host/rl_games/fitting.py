"""What of an experiment must be otherwise for a policy of rl_games to play as it did, and which policies cannot."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrl.host.keys import error, show
from jaxrl.host.rl_games import network, rules
from jaxrl.host.rl_games.source import Source
from jaxrl.host.rl_games.weights import NET, Tensors

SPACE = network.SPACE
CENTRAL_NETWORK = "central_value_config.network"
WIDEST = (-20.0, 20.0)  # network.log_std_bounds
# A central value shares these with the policy here.
SHARED = (
    *("mlp.activation", "mlp.d2rl", "normalization", "value_activation"),
    *("cnn.type", "cnn.activation", "rnn.name", "rnn.units", "rnn.layers", "rnn.before_mlp"),
    *("rnn.concat_input", "rnn.concat_output", "rnn.layer_norm"),
)


def check(source: Source) -> None:
    """ConfigError for a network whose weights would not give its outputs here."""
    for key, is_bad, why in HINDRANCES:
        if is_bad(source, key):
            value = "" if source.get(key) is None else f"={show(source.get(key))}"
            raise error(f"{key}{value}: {why}; convert the yaml without --checkpoint, and train anew")
    if not rules.has_critic(source):
        return
    for part in SHARED:
        theirs, ours = source.get(f"{CENTRAL_NETWORK}.{part}"), source.get(f"network.{part}")
        if (theirs or None) != (ours or None):
            raise error(
                f"{CENTRAL_NETWORK}.{part}={show(theirs)} is not the policy's {show(ours)}, and both share it here, so "
                "the weights cannot be moved; convert the yaml without --checkpoint, and train anew"
            )
    both = [source.flag(key) for key in ("normalize_input", "central_value_config.normalize_input")]
    if both[0] != both[1]:
        raise error(
            f"normalize_input={both[0]} and central_value_config.normalize_input={both[1]} are one key here, so the "
            "weights cannot be moved; convert the yaml without --checkpoint, and train anew"
        )


def changes(source: Source, tensors: Tensors) -> dict[str, tuple[Any, str]]:
    """{our key: (value, why)}: what the experiment sets otherwise than for a run that begins anew."""
    changed: dict[str, tuple[Any, str]] = {}
    if source.flag("mixed_precision"):
        changed["network.dtype"] = ("float32", "rl_games acts in float32, and has mixed_precision for learning alone")
    has_norm = any(name.startswith(f"{NET}.actor_mlp.") and x.ndim == 1 for name, x in _weights(tensors))
    if source.get("network.normalization") == "layer_norm" and not has_norm:
        changed["network.layer_norm"] = (False, "the weights have none")
    if source.get("params.model.name") == "continuous_a2c_tanh":
        start = source.number(f"{SPACE}.sigma_init.val", 0.0)
        changed["network.std_parametrization"] = ("softplus", "σ = softplus(raw) + 0.001 in continuous_a2c_tanh")
        changed["network.min_std"] = (0.001, "likewise")
        changed["network.initial_std"] = (round(math.log1p(math.exp(min(start, 99.0))) + 0.001, 6), "likewise")
    elif not rules.is_discrete(source) and not source.has(f"{SPACE}.logstd_bounds"):
        changed |= _bounds(tensors)
    return changed


def _bounds(tensors):
    """log σ is not bounded there."""
    if f"{NET}.sigma" not in tensors:
        return {"network.log_std_bounds": (WIDEST, "rl_games does not bound log σ")}
    raw = np.asarray(tensors[f"{NET}.sigma"], float)
    if raw.size and (raw.min() < -10.0 or raw.max() > 2.0):
        return {"network.log_std_bounds": (WIDEST, "rl_games does not bound log σ")}
    return {}


def _weights(tensors):
    return ((name, x) for name, x in tensors.items() if name.endswith(".weight"))


def _is_set(source, key):
    return bool(source.get(key))


def _is_cnn(source):
    return source.has("network.cnn")


def _is_none_of(*names) -> Callable:
    return lambda source, key: source.get(key) is not None and source.get(key) not in names


HINDRANCES: tuple[tuple[str, Callable[[Source, str], bool], str], ...] = (
    ("network.name", _is_none_of("actor_critic"), "the weights of this network have no counterpart here"),
    (
        "params.model.name",
        lambda source, key: source.get(key) == "continuous_a2c",
        "its network says σ itself, and it does not run in rl_games 1.6.5",
    ),
    ("network.value_activation", _is_set, "values have no activation here"),
    (
        f"{SPACE}.mu_activation",
        lambda source, key: _is_set(source, key) and not rules.is_discrete(source),
        "means have no activation here",
    ),
    (
        f"{SPACE}.sigma_activation",
        lambda source, key: _is_set(source, key) and not rules.is_discrete(source),
        "σ has another parametrisation here",
    ),
    (
        "network.mlp.activation",
        lambda source, key: source.get(key) not in network.ACTIVATIONS,
        "there is no such activation here",
    ),
    (
        "network.normalization",
        lambda source, key: source.get(key) is not None and source.flag("network.mlp.d2rl"),
        "with mlp.d2rl it stands before the activation there, and behind it here",
    ),
    (
        "network.normalization",
        lambda source, key: source.get(key) is not None and _is_cnn(source),
        "convolutions are not normalised here",
    ),
    (
        "network.cnn.type",
        lambda source, key: _is_cnn(source) and source.get(key) not in ("conv2d", "conv2d_flatten"),
        "only conv2d reads the same here",
    ),
    (
        "network.cnn.permute_input",
        lambda source, key: _is_cnn(source) and not source.flag(key, True),
        "images are [H, W, C] here",
    ),
    ("network.rnn.name", _is_none_of("lstm", "gru"), "there is no such memory here"),
    (f"{CENTRAL_NETWORK}.separate", rules.flag, "a central value is one tower here"),
)
