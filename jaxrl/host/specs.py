"""A Spec as JSON, and back: what a run folder remembers of its environment, so that its policy plays without it.

    {"num_envs": 2048, "truncation_interval": 1, "num_agents": 1, "num_value_heads": 1, "traceable": true,
     "all_valid": true, "obs": {"dict": {"policy": {"array": {"dtype": "float32", "shape": [48]}}, ...}},
     "action": {"box": {"shape": [12], "low": -1.0, "high": 1.0}}}

An observation is {"array": ...}, {"dict": {name: ...}}, {"tuple": [...]} or {"list": [...]}; an action {"box": ...},
{"discrete": options}, {"multi_discrete": [options, ...]} or {"tuple": [...]}. A bound that is not finite is a text,
"inf", as JSON has no such number.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Box, Discrete, MultiDiscrete, PyTree, Space, Spec

NUMBERS = ("num_envs", "truncation_interval", "num_agents", "num_value_heads")
FLAGS = ("traceable", "all_valid")


def encode(spec: Spec) -> dict[str, Any] | None:
    """What `decode` takes back; None where the observation holds containers that JSON cannot give back."""
    obs = encode_obs(spec.obs)
    if obs is None:
        return None
    return {name: getattr(spec, name) for name in NUMBERS + FLAGS} | {"obs": obs, "action": encode_space(spec.action)}


def decode(encoded: dict[str, Any]) -> Spec:
    """The Spec that `encode` was given.

    Raises:
        ValueError, TypeError, KeyError: it is none of encode's.
    """
    encoded = {"all_valid": False} | encoded  # run folders of before that was asked do not say
    plain = {name: encoded[name] for name in NUMBERS + FLAGS}
    for name, value in plain.items():
        if type(value) is not (bool if name in FLAGS else int):
            raise ValueError(f"{name}={value!r}")
    return Spec(obs=decode_obs(encoded["obs"]), action=decode_space(encoded["action"]), **plain)


def encode_obs(obs: PyTree) -> dict | None:
    """An observation as JSON; None where it holds containers that JSON cannot give back."""
    if type(obs) is dict:
        parts = {name: encode_obs(part) for name, part in obs.items()}
        return {"dict": parts} if all(type(name) is str and part for name, part in parts.items()) else None
    if type(obs) in (tuple, list):
        parts = [encode_obs(part) for part in obs]
        return {type(obs).__name__: parts} if all(parts) else None
    if not isinstance(obs, jax.ShapeDtypeStruct):
        return None
    return {"array": {"dtype": obs.dtype.name, "shape": list(obs.shape)}}


def decode_obs(encoded: dict) -> PyTree:
    """The observation that `encode_obs` was given."""
    ((kind, value),) = encoded.items()
    match kind:
        case "array":
            return jax.ShapeDtypeStruct(_sizes(value["shape"]), jnp.dtype(value["dtype"]))
        case "dict":
            return {name: decode_obs(part) for name, part in value.items()}
        case "tuple":
            return tuple(decode_obs(part) for part in value)
        case "list":
            return [decode_obs(part) for part in value]
    raise ValueError(f"{kind!r} is no observation")


def encode_space(space: Space) -> dict:
    """An action space as JSON."""
    match space:
        case Box(shape, low, high):
            return {"box": {"shape": list(shape), "low": _encode_bound(low), "high": _encode_bound(high)}}
        case Discrete(size):
            return {"discrete": int(size)}
        case MultiDiscrete(sizes):
            return {"multi_discrete": [int(size) for size in sizes]}
        case tuple():
            return {"tuple": [encode_space(part) for part in space]}
    raise TypeError(f"{space!r} is no action space")


def decode_space(encoded: dict) -> Space:
    """The space that `encode_space` was given."""
    ((kind, value),) = encoded.items()
    match kind:
        case "box":
            return Box(_sizes(value["shape"]), float(value["low"]), float(value["high"]))
        case "discrete":
            return Discrete(*_sizes([value]))
        case "multi_discrete":
            return MultiDiscrete(_sizes(value))
        case "tuple":
            return tuple(decode_space(part) for part in value)
    raise ValueError(f"{kind!r} is no action space")


def _encode_bound(bound: float) -> float | str:
    return float(bound) if math.isfinite(bound) else str(float(bound))


def _sizes(values: list) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{values!r} are no sizes")
    return tuple(values)
