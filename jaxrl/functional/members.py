"""Members of a batch of runs, each computed as it would be alone."""

import functools
from collections.abc import Callable

import jax

from jaxrl.types import PyTree


def in_turn(function: Callable) -> Callable:
    """`function`, of which `jax.vmap` computes the members one after the other instead of side by side.

    Each member then gives, bit for bit, what it would give alone: a batched sum may run in another order. The price
    is what side by side gains: on a CPU, whose cores one member keeps busy, a tenth at most. It can be mapped twice.

    Args:
        function: of pytrees of arrays.
    """

    @functools.wraps(function)
    def call(*arguments):
        given, restore = _bare(arguments)
        restore_result = None

        @jax.custom_batching.custom_vmap
        def mapped(given):
            nonlocal restore_result
            result, restore_result = _bare(function(*restore(given)))
            return result

        @mapped.def_vmap
        def one_by_one(size, is_mapped, given):
            del size

            def one(members):
                members = iter(members)
                return mapped([next(members) if flag else x for flag, x in zip(*is_mapped, given, strict=True)])

            result = jax.lax.map(one, [x for flag, x in zip(*is_mapped, given, strict=True) if flag])
            return result, [True] * len(result)

        result = mapped(given)
        return restore_result(result)

    return call


def _bare(tree: PyTree) -> tuple[list, Callable]:
    """The leaves, keys as numbers, and the way back.

    JAX's check of the reuse of keys takes it for a use when one passes a function with a rule of its own.
    """
    leaves, treedef = jax.tree.flatten(tree)
    impls = [jax.random.key_impl(x) if _is_key(x) else None for x in leaves]

    def restore(leaves):
        pairs = zip(impls, leaves, strict=True)
        return treedef.unflatten([x if impl is None else jax.random.wrap_key_data(x, impl=impl) for impl, x in pairs])

    return [jax.random.key_data(x) if _is_key(x) else x for x in leaves], restore


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
