"""A tree of arrays as one vector: what is done to every number alike is then done by one kernel, not by one a leaf."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp

from jaxrl.types import Array, PyTree


def join(tree: PyTree) -> Array:
    """[P], the numbers of all leaves end to end."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def part(vector: Array, like: PyTree) -> PyTree:
    """The tree, of shapes and dtypes as `like`, that the vector [P] was joined of."""
    leaves, treedef = jax.tree.flatten(like)
    pieces = jax.lax.split(vector, [math.prod(leaf.shape) for leaf in leaves])
    return treedef.unflatten(
        piece.reshape(leaf.shape).astype(leaf.dtype) for piece, leaf in zip(pieces, leaves, strict=True)
    )


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["names"])
@dataclasses.dataclass(frozen=True, eq=False)
class Row(Mapping):
    """Numbers by name, such as metrics, as one vector: to sum or to fetch them is one operation, not one each."""

    names: tuple[str, ...]
    values: Array  # [..., M]

    def __getitem__(self, name: str) -> Array:
        """The number of that name, [...]."""
        if name not in self.names:
            raise KeyError(name)
        return self.values[..., self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __or__(self, other: Mapping) -> dict[str, Array]:
        """Both, as of dicts."""
        return {**self, **other}

    def __ror__(self, other: Mapping) -> dict[str, Array]:
        return {**other, **self}


def row(numbers: dict[str, Array]) -> Row:
    """The numbers, [] each, as float32."""
    values = [jnp.asarray(number, jnp.float32).reshape(1) for number in numbers.values()]
    return Row(tuple(numbers), jnp.concatenate([jnp.zeros(0), *values]))
