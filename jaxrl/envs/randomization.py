"""Domain randomisation: each episode has physics of its own, drawn with its initial state.

The function that draws is one that Brax's and MuJoCo Playground's trainers also take, (model, keys [N]) -> (models,
axes): the model of the physics with what differs between environments as [N, ...], and a model of the same form that
has 0 at those and None elsewhere; https://github.com/google-deepmind/mujoco_playground, `randomize.py` of each robot.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxrl import find
from jaxrl.types import Array, ConfigError, PyTree


class Randomization(NamedTuple):
    """Physics that differ between environments; without any, the numbers are none and the model as it was."""

    draw: Callable[[Array], tuple]  # raw key -> numbers of one environment, a tuple of arrays
    model: Callable[[tuple], PyTree]  # numbers -> the model that has them


def make(function: Callable | None, model: PyTree) -> Randomization:
    """Randomisation of a model.

    Args:
        function: (model, raw keys [N]) -> (models, axes); None draws nothing.
        model: as the environment has it.

    Raises:
        ConfigError: the function fails or returns something else.
    """
    if function is None:
        return Randomization(lambda key: (), lambda numbers: model)
    leaves, tree = jax.tree.flatten(model, is_leaf=_is_none)

    def differing(key):
        models, axes = function(model, key[None])
        axes = jax.tree.leaves(axes, is_leaf=_is_none)
        return {
            i: x[0]
            for i, (x, axis) in enumerate(zip(jax.tree.leaves(models, is_leaf=_is_none), axes, strict=True))
            if axis == 0
        }

    try:
        positions = tuple(jax.eval_shape(differing, jax.random.key_data(jax.random.key(0))))
    except Exception as mistake:  # a user's function may fail in any way
        cause = " ".join(f"{type(mistake).__name__}: {mistake}".split())
        raise ConfigError(
            f"config.env.randomization fails ({cause}); it must be (model, keys [N]) -> (models, axes)."
        ) from mistake

    def changed(numbers):
        new = list(leaves)
        for position, number in zip(positions, numbers, strict=True):
            new[position] = number
        return jax.tree.unflatten(tree, new)

    return Randomization(lambda key: tuple(differing(key).values()), changed)


def users(path: str) -> Callable | None:
    """The user's function at 'package.module:function'; None without a path.

    Raises:
        ConfigError: it cannot be imported.
    """
    return find.function(path, "config.env.randomization") if path else None


def _is_none(x):
    return x is None
