"""Functions that each device computes for its own share of the environments, where nothing has to cross.

The compiler shares a program out by itself, but it does not see all that is independent. It sums the gradient of a
recurrent network over the devices at every step back through time, in the place of once; and a custom call that it does
not know, as simulators and linear algebra have them, it gathers all environments for, on every device.

The mesh is the ambient one (`jax.set_mesh`, or what `host/sharding.py` puts around a program), and all of its axes
share the environments. Without one, and for whoever has whole runs on each device (vmap, pmap), nothing changes.

Letters in shapes: D devices.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from jaxrl.functional import vectors
from jaxrl.types import PyTree


def locally(function: Callable, in_axes: tuple[int | None, ...], out_axes: PyTree) -> Callable:
    """`function`, called by each device with its own share; results are put together again, without traffic.

    What is shared must be computed row by row. The gradient with respect to what is the same everywhere is one sum over
    the devices, of all its leaves at once, behind all that the function computes.

    Args:
        function: of pytrees of arrays.
        in_axes: for each argument the axis of the environments, or None for floats that are the same everywhere.
        out_axes: the axis in the results, or a tree of axes that is a prefix of the result.

    Returns:
        A function of the same arguments. Where they cannot be shared evenly, the compiler does as it sees fit.
    """

    def call(*arguments):
        names = _ambient()
        devices = math.prod(names.values())
        if devices == 1 or any(length % devices for length in _lengths(in_axes, arguments)):
            return function(*arguments)

        def spec(axis):
            return PartitionSpec(*[None] * axis, tuple(names))

        def one_device(*shares):
            return function(*_where_none(in_axes, shares, lambda x: jax.tree.map(lambda x: x[0], x)))

        # Their own check takes a constant that is the same everywhere for a mistake.
        shared = jax.shard_map(
            one_device,
            in_specs=tuple(spec(axis or 0) for axis in in_axes),
            out_specs=jax.tree.map(spec, out_axes),
            axis_names=set(names),
            check_vma=False,
        )
        return shared(*_where_none(in_axes, arguments, lambda x: copies(x, devices)))

    return call


def copies(tree: PyTree, devices: int) -> PyTree:
    """Each leaf [...] once for each device, [D, ...], whose gradient is one sum of all leaves as one vector.

    Leaf by leaf, how many sums are left is up to the compiler, and each costs the latency of the network.
    """

    @jax.custom_vjp
    def spread(tree):
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (devices, *x.shape)), tree)

    def backward(_, gradients):
        return (vectors.part(jnp.sum(jax.vmap(vectors.join)(gradients), axis=0), tree),)

    spread.defvjp(lambda tree: (spread(tree), None), backward)
    return spread(tree)


def _ambient():
    """The axes of the ambient mesh that are the compiler's to share, and their sizes."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {name: mesh.shape[name] for name, kind in kinds if kind == AxisType.Auto}


def _where_none(axes, arguments, change):
    """The arguments, of which those without an axis are changed."""
    return [change(x) if axis is None else x for axis, x in zip(axes, arguments, strict=True)]


def _lengths(axes, arguments):
    """How many environments the leaves of all arguments have."""
    shared = [(axis, x) for axis, x in zip(axes, arguments, strict=True) if axis is not None]
    return {leaf.shape[axis] for axis, x in shared for leaf in jax.tree.leaves(x)}
