"""What the nouns show of themselves."""

import jax
import jax.numpy as jnp

from jaxrl.types import Box, Spec


def test_a_spec_shows_types_and_shapes_in_one_line():
    array = jax.ShapeDtypeStruct((8,), jnp.float32)
    assert str(Spec(4, array, Box((1,)), 1000)) == (
        "Spec(num_envs=4, obs=float32[8], reward=float32[], action=Box(shape=(1,), low=-1.0, high=1.0), "
        "truncation_interval=1000, num_agents=1, num_value_heads=1, traceable=True, all_valid=False)"
    )


def test_a_spec_shows_the_parts_of_a_dict_and_the_heads_of_the_reward():
    obs = {"policy": jax.ShapeDtypeStruct((84, 84, 4), jnp.uint8), "action_mask": jax.ShapeDtypeStruct((3,), bool)}
    shown = str(Spec(4, obs, Box((1,)), 1000, num_value_heads=2))
    assert "obs={'action_mask': bool[3], 'policy': uint8[84, 84, 4]}, reward=float32[2]" in shown
