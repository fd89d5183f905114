"""What a policy of rl_games sees and does: as its weights tell, and as its environment does."""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl import envs
from jaxrl.host.keys import error
from jaxrl.host.rl_games import rules
from jaxrl.host.rl_games.source import Source
from jaxrl.host.rl_games.weights import CENTRAL, NET, Tensors
from jaxrl.networks import actor_critic
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete, Spec


def find(tensors: Tensors, source: Source, config: ConfigDict) -> tuple[Spec, str]:
    """The environment's, which must fit the weights; the weights' own where it cannot be made; and which it is.

    Raises:
        ConfigError: the environment shows or wants something else, or the weights do not tell.
    """
    try:
        spec = envs.make(config.env, 1, restarts=False).spec
    except ConfigError as reason:
        spec = spec_of(tensors, source)
        return spec, f"sizes: of the weights, {spec!r}; the environment cannot be made here ({reason})"
    compare(spec, tensors, source, f"{config.env.suite}/{config.env.name}")
    return spec, f"sizes: of the environment {config.env.suite}/{config.env.name}, which fit the weights"


def spec_of(tensors: Tensors, source: Source) -> Spec:
    """What the weights alone tell.

    Raises:
        ConfigError: they do not tell the size of the observation, or there is no head.
    """
    seen = {"policy": _obs_of(tensors, "", source)}
    if rules.has_critic(source):
        seen["critic"] = _obs_of(tensors, CENTRAL, source)
    action = _action_of(tensors)
    if source.flag("use_action_masks") and not isinstance(action, Box):
        options = action.size if isinstance(action, Discrete) else sum(action.sizes)
        seen["action_mask"] = jax.ShapeDtypeStruct((options,), jnp.bool_)
    obs = seen if len(seen) > 1 else seen["policy"]
    return Spec(1, obs, action, 1, num_value_heads=_shape(tensors, _head_of(tensors))[0])


def _obs_of(tensors, prefix, source):
    name = f"{prefix}running_mean_std.running_mean"
    if name in tensors:
        return jax.ShapeDtypeStruct(tensors[name].shape, jnp.float32)
    if source.has("network.cnn"):
        raise error(
            "the size of the images stands in no tensor, as normalize_input is False, and the environment cannot be "
            "made here; install what it needs"
        )
    rnn, separate = source.get("network.rnn.name"), source.flag("network.separate") and not prefix
    first = f"{'a_' if separate else ''}rnn.rnn.weight_ih_l0"
    if not (rnn and source.flag("network.rnn.before_mlp")):
        first = "actor_mlp.linears.0.weight" if source.flag("network.mlp.d2rl") else "actor_mlp.0.weight"
    return jax.ShapeDtypeStruct((_shape(tensors, f"{prefix}{NET}.{first}")[-1],), jnp.float32)


def _action_of(tensors):
    if f"{NET}.mu.weight" in tensors:
        return Box((_shape(tensors, f"{NET}.mu.weight")[0],))
    if f"{NET}.logits.0.weight" not in tensors:
        return Discrete(_shape(tensors, f"{NET}.logits.weight")[0])
    parts = [name for name in tensors if name.startswith(f"{NET}.logits.") and name.endswith(".weight")]
    return MultiDiscrete(tuple(tensors[f"{NET}.logits.{number}.weight"].shape[0] for number in range(len(parts))))


def _head_of(tensors):
    central = f"{CENTRAL}{NET}.value.weight"
    return central if central in tensors else f"{NET}.value.weight"


def _shape(tensors, name):
    if name not in tensors:
        raise error(f"{name} is missing, which the yaml's network has; give the yaml that the run began with")
    return tensors[name].shape


def compare(spec: Spec, tensors: Tensors, source: Source, where: str) -> None:
    """ConfigError where the environment of that name shows or wants something else than the weights do."""
    cure = "give the yaml that the run began with, or correct its environment"
    seen = actor_critic.view(spec.obs)
    has_critic = seen.critic is not seen.policy
    if has_critic != rules.has_critic(source):
        has = ("shows no `critic`", "shows one") if rules.has_critic(source) else ("shows `critic`", "has none")
        raise error(f"{where} {has[0]} and the central value {has[1]}; {cure}")
    for name, part, prefix in (("policy", seen.policy, ""), ("critic", seen.critic if has_critic else {}, CENTRAL)):
        if len(part) > 1:
            raise error(f"{where} shows the {name} {', '.join(part)}, and rl_games reads one observation; {cure}")
        for shown in part.values():
            _compare_obs(shown, tensors, prefix, source, f"{where} shows the {name}", cure)
    action = _action_of(tensors)
    if isinstance(spec.action, Box) and isinstance(action, Box):
        is_same = math.prod(spec.action.shape) == action.shape[0]
    else:
        is_same = spec.action == action
    if not is_same:
        raise error(f"{where} wants {spec.action!r} and the weights give {action!r}; {cure}")


def _compare_obs(shown, tensors, prefix, source, where, cure):
    is_normalized = f"{prefix}running_mean_std.running_mean" in tensors
    if not is_normalized and source.has("network.cnn"):
        return  # the weights do not tell the size of an image; those behind the convolutions must fit
    read = _obs_of(tensors, prefix, source)
    if tuple(shown.shape) != tuple(read.shape):
        raise error(f"{where} {list(shown.shape)} and the weights read {list(read.shape)}; {cure}")
    if is_normalized and shown.dtype == jnp.uint8:
        raise error(
            f"{where} uint8, which is not normalised here, and normalize_input=True; convert the yaml without "
            "--checkpoint, and train anew"
        )


def encoded(spec: Spec) -> dict[str, tuple]:
    """The shape of the observation of each encoder, by its path."""
    seen = actor_critic.view(spec.obs)
    sides = {"policy": seen.policy, "value": seen.critic}
    return {f"{side}_encoder.{name}": x.shape for side, part in sides.items() for name, x in part.items()}


def check_padding(source: Source, config: ConfigDict, obs: dict[str, tuple]) -> None:
    """ConfigError where zeros around an image would stand elsewhere than there."""
    layers = source.get("network.cnn.convs")
    images = [shape for shape in obs.values() if len(shape) == 3]
    for size in images[0][:2] if images and isinstance(layers, list) else ():
        for layer, kernel, stride in zip(layers, config.cnn_kernels, config.cnn_strides, strict=True):
            zeros = layer.get("padding", 0)
            there = (size + 2 * zeros - kernel) // stride + 1
            here, before = (size - kernel) // stride + 1, 0
            if config.cnn_padding == "same":
                here = -(-size // stride)
                before = max((here - 1) * stride + kernel - size, 0) // 2
            if (here, before) != (there, zeros):
                raise error(
                    f"network.cnn.convs, padding={zeros} of a kernel of {kernel} and a stride of {stride} on {size} "
                    "pixels is not what cnn_padding=same does here; convert the yaml without --checkpoint"
                )
            size = there
