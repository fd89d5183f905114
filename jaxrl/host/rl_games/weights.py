"""Which of rl_games' tensors is which of our parameters, and what is done to it on the way.

Theirs are named as in its state dicts, 'a2c_network.actor_mlp.0.weight'; those of a central value begin with `CENTRAL`.
All that happens to a tensor is that its axes change places, that several are put side by side, and that inputs change
places behind convolutions; so whatever has a number for each weight (Adam's moments) moves along by the same recipe.

Letters in shapes: I inputs, O outputs, C channels, H and W of an image.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.host.keys import error
from jaxrl.host.rl_games import rules
from jaxrl.host.rl_games.source import Source
from jaxrl.types import PyTree

NET = "a2c_network"
CENTRAL = "central."  # before the names of assymetric_vf_nets
BUFFERS = re.compile(r"(running_mean|running_var|count)$")  # what a state dict has beside parameters

Tensors = Mapping[str, np.ndarray]


class Tower(NamedTuple):
    """Names of what lies between observations and heads, in one of our two towers."""

    net: str
    mlp: str
    cnn: str
    rnn: str
    norm: str
    head: str  # what the names of its heads begin with


class Recipe(NamedTuple):
    """How one of our parameters is made of theirs."""

    names: tuple[str, ...]  # more than one are put side by side, along their outputs
    sees_features: bool = False  # its last inputs are those of the encoder


def towers(source: Source) -> dict[str, Tower]:
    """The names for our `policy` and `value`."""
    a, c = ("a_", "c_") if source.flag("network.separate") else ("", "")
    policy = Tower(NET, "actor_mlp", "actor_cnn", f"{a}rnn", f"{a}layer_norm", NET)
    value = Tower(NET, "critic_mlp", "critic_cnn", f"{c}rnn", f"{c}layer_norm", NET)
    if rules.has_critic(source):
        net = CENTRAL + NET
        value = Tower(net, "actor_mlp", "actor_cnn", "rnn", "layer_norm", net)
    return {"policy": policy, "value": value}


def move(tensors: Tensors, source: Source, config: ConfigDict, params: PyTree, obs: Mapping[str, tuple]) -> PyTree:
    """Our parameters, float32, made of their tensors.

    Args:
        tensors: by their names, or one of Adam's moments of each.
        source: the yaml.
        config: the group `network`.
        params: of jax.ShapeDtypeStruct, a dict of branches.
        obs: the shape of the observation of each of our encoders, by its path 'policy_encoder.obs'.

    Raises:
        ConfigError: a tensor is missing, left over, or of another shape than the yaml says.
    """
    recipes = Recipes(tensors, source, config, params)
    used: set[str] = set()

    def make(path, like):
        names = tuple(part.key for part in path)
        recipe = recipes.of(names)
        for name in recipe.names:
            if name not in tensors:
                raise error(f"{name} is missing, which the yaml's network has; give the yaml that the run began with")
        used.update(recipe.names)
        found = _shaped([tensors[name] for name in recipe.names], names[-1])
        if found.shape != like.shape:
            theirs = ", ".join(f"{name} {list(tensors[name].shape)}" for name in recipe.names)
            raise error(
                f"{theirs} does not fit the yaml's network, which takes {list(like.shape)} for {'.'.join(names)}; "
                "give the yaml that the run began with"
            )
        if recipe.sees_features and names[-1] == "kernel":
            found = _reordered(found, recipes.conv_output(names[0].partition("_")[0], obs))
        return np.ascontiguousarray(found, np.float32)

    moved = jax.tree_util.tree_map_with_path(make, params)
    if surplus := [name for name in tensors if name not in used and not stays(name, source) and not is_buffer(name)]:
        raise error(
            f"{surplus[0]} {list(tensors[surplus[0]].shape)} is left over: the yaml's network has nothing of the kind; "
            "give the yaml that the run began with"
        )
    return moved


def is_buffer(name: str) -> bool:
    """Whether a tensor of a state dict is of a normaliser, and no parameter."""
    return bool(re.match(rf"({CENTRAL})?(running_mean_std|value_mean_std)\.", name)) and bool(BUFFERS.search(name))


def stays(name: str, source: Source) -> bool:
    """Whether it has no place here: of a policy beside a central value, its own critic."""
    own = (f"{NET}.value.", f"{NET}.critic_", f"{NET}.c_rnn.", f"{NET}.c_layer_norm.")
    return rules.has_critic(source) and name.startswith(own)


class Recipes:
    """The recipe of each parameter of a network."""

    def __init__(self, tensors: Tensors, source: Source, config: ConfigDict, params: PyTree):
        self._tensors, self._config, self._params = tensors, config, params
        self._towers = towers(source)
        self._is_d2rl = source.flag("network.mlp.d2rl")

    def of(self, path: tuple[str, ...]) -> Recipe:
        """The recipe of the parameter with that path, ('policy_torso', 'Dense_0', 'kernel')."""
        side, _, part = path[0].partition("_")
        tower = self._towers[side]
        leaf = {"kernel": "weight", "scale": "weight"}.get(path[-1], path[-1])
        match part:
            case "torso":
                kind, _, number = path[1].partition("_")
                layers = self._layers(f"{tower.net}.{tower.mlp}", kind)
                name = layers[int(number)] if int(number) < len(layers) else f"{tower.net}.{tower.mlp}, layer {number}"
                sees = kind == "Dense" and self._torso_sees() and (number == "0" or self._is_d2rl)
                return Recipe((f"{name}.{leaf}",), sees and self._has_cnn(side))
            case "encoder":
                layers = self._layers(f"{tower.net}.{tower.cnn}", "Conv")
                number = int(path[2].partition("_")[2])
                name = layers[number] if number < len(layers) else f"{tower.net}.{tower.cnn}, layer {number}"
                return Recipe((f"{name}.{leaf}",))
            case "core":
                return self._core(tower, path, side)
        return self._head(tower, path, leaf, side)

    def conv_output(self, side: str, obs: Mapping[str, tuple]) -> tuple[int, int, int]:
        """(C, H, W) of what the convolutions of a tower say."""
        (name,) = self._params[f"{side}_encoder"]
        height, width = obs[f"{side}_encoder.{name}"][:2]
        config = self._config
        for kernel, stride in zip(config.cnn_kernels, config.cnn_strides, strict=True):
            if config.cnn_padding == "same":
                height, width = -(-height // stride), -(-width // stride)
            else:
                height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        return config.cnn_filters[-1], height, width

    def _core(self, tower, path, side):
        if path[1] == "norm":
            return Recipe((f"{tower.net}.{tower.norm}.{'weight' if path[-1] == 'scale' else 'bias'}",))
        number = path[1].partition("_")[2]
        parts = {
            ("input", "kernel"): "weight_ih",
            ("input", "bias"): "bias_ih",
            ("state_kernel",): "weight_hh",
            ("state_bias",): "bias_hh",
        }
        config = self._config
        sees = number == "0" and (config.core_before_torso or config.core_concat_input)
        return Recipe((f"{tower.net}.{tower.rnn}.rnn.{parts[path[2:]]}_l{number}",), sees and self._has_cnn(side))

    def _head(self, tower, path, leaf, side):
        sees = self._config.core != "none" and self._config.core_concat_output and not self._config.core_before_torso
        sees = sees and self._has_cnn(side)
        if path == ("policy_head", "log_std"):
            return Recipe((f"{tower.head}.sigma",))
        name = {"mean": "mu", "log_std": "sigma", "Dense_0": "value"}.get(path[1], path[1])
        parts = sorted(self._numbers(f"{tower.head}.{name}")) if name == "logits" else []
        return Recipe(tuple(f"{tower.head}.{name}.{part}{leaf}" for part in [f"{n}." for n in parts] or [""]), sees)

    def _torso_sees(self):
        config = self._config
        return config.core_concat_output if config.core != "none" and config.core_before_torso else True

    def _has_cnn(self, side):
        return f"{side}_encoder" in self._params

    def _layers(self, stem, kind):
        """Names of the layers of a kind in a Sequential or a D2RLNet, in order."""
        if kind != "Conv" and f"{stem}.linears.0.weight" in self._tensors:
            stem = f"{stem}.{'linears' if kind == 'Dense' else 'norm_layers'}"
        axes = {"Dense": 2, "Conv": 4, "LayerNorm": 1}[kind]
        names = [f"{stem}.{number}" for number in sorted(self._numbers(stem))]
        return [name for name in names if self._tensors[f"{name}.weight"].ndim == axes]

    def _numbers(self, stem):
        found = (re.fullmatch(rf"{re.escape(stem)}\.(\d+)\.weight", name) for name in self._tensors)
        return {int(match[1]) for match in found if match}


def _shaped(tensors: list[np.ndarray], leaf: str) -> np.ndarray:
    """Side by side, and in our order of axes: [O, I] → [I, O], [O, I, H, W] → [H, W, I, O]."""
    if leaf in ("kernel", "state_kernel"):
        tensors = [tensor.T if tensor.ndim != 4 else tensor.transpose(2, 3, 1, 0) for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors, axis=-1)


def _reordered(kernel: np.ndarray, output: tuple[int, int, int]) -> np.ndarray:
    """[I, O] whose last inputs are an image flattened as [C, H, W] there, and as [H, W, C] here."""
    places = np.arange(np.prod(output)).reshape(output).transpose(1, 2, 0).reshape(-1)
    start = kernel.shape[0] - places.size
    return np.concatenate([kernel[:start], kernel[start:][places]])
