"""A Spec comes back from JSON as it was, of whatever it is made."""

import json

import jax
import jax.numpy as jnp
import pytest

from jaxrl.host import specs
from jaxrl.types import Box, Discrete, MultiDiscrete, Spec


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


OBS = {
    "array": array(3),
    "scalar": array(),
    "image": array(84, 84, 4, dtype=jnp.uint8),
    "half": array(3, dtype=jnp.bfloat16),
    "dict": {"policy": array(3), "critic": {"map": array(5, 5), "rest": array(2)}, "action_mask": array(4, dtype=bool)},
    "tuple": (array(3), [array(2), array(1, dtype=jnp.int32)]),
}
ACTIONS = {
    "box": Box((2,)),
    "wide": Box((2, 3), -0.1, 1e30),
    "unbounded": Box((1,), -jnp.inf, jnp.inf),
    "discrete": Discrete(5),
    "multi_discrete": MultiDiscrete((3, 2)),
    "tuple": (Box((1,)), (Discrete(3), MultiDiscrete((2, 2)))),
}


def through_json(spec):
    return specs.decode(json.loads(json.dumps(specs.encode(spec), allow_nan=False)))


@pytest.mark.parametrize("name", OBS)
def test_an_observation_comes_back(name):
    spec = Spec(7, OBS[name], Discrete(2), 100, num_agents=3, num_value_heads=2, traceable=False, all_valid=True)
    back = through_json(spec)
    assert back == spec
    assert jax.tree.structure(back.obs) == jax.tree.structure(spec.obs)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_space_comes_back(name):
    back = through_json(Spec(1, array(3), ACTIONS[name], 1))
    assert back.action == ACTIONS[name] and type(back.action) is type(ACTIONS[name])


def test_a_spec_of_before_all_valid_was_asked_promises_nothing():
    encoded = specs.encode(Spec(1, array(3), Discrete(2), 1, all_valid=True))
    assert not specs.decode({name: value for name, value in encoded.items() if name != "all_valid"}).all_valid


def test_containers_that_json_has_not_are_not_written():
    assert specs.encode(Spec(1, Discrete(array(3)), Discrete(2), 1)) is None
    assert specs.encode(Spec(1, {"policy": {1: array(3)}}, Discrete(2), 1)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"num_envs": True},
        {"traceable": 1},
        {"all_valid": 0},
        {"obs": {"array": {"dtype": "float32", "shape": [-1]}}},
        {"obs": {"array": {"dtype": "no_dtype", "shape": [1]}}},
        {"obs": {"set": []}},
        {"obs": {}},
        {"action": {"discrete": 2.5}},
        {"action": {"nothing": 1}},
    ],
)
def test_what_is_none_of_ours_is_refused(change):
    encoded = specs.encode(Spec(1, array(3), Discrete(2), 1))
    with pytest.raises((ValueError, TypeError, KeyError)):
        specs.decode(encoded | change)
