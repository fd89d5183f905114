"""Where each array lives: a one-dimensional mesh over all devices, environments split, everything else on each.

This file alone knows how many devices there are. The compiler splits the pure epoch by what it finds here. The devices
may be of several processes, of which each calls everything here with the same values.
"""

import functools
import os
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl import cores
from jaxrl.types import ConfigError, PyTree, Spec, TrainState

AXIS = "data"
FEWEST = 32  # environments of a core: with fewer, meeting the others takes longer than they save
_has_cores = False  # the devices of a CPU are its cores, by `wake`


def wake() -> None:
    """Wakes JAX up with a device for each core of a CPU, a power of two of them; a run takes those it has use for.

    XLA computes a small kernel on one core, and physics is made of them: with one device the other cores are idle.
    Nothing changes where JAX is awake, or was told a number: JAX_NUM_CPU_DEVICES=1, or XLA_FLAGS.
    """
    global _has_cores
    flags = os.environ.get("XLA_FLAGS", "")
    told = jax.config.jax_num_cpu_devices > 0 or "xla_force_host_platform_device_count" in flags
    devices = 1 << (cores.number().bit_length() - 1)
    if told or devices == 1 or jax.distributed.is_initialized():
        return
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # it is awake
        return
    _has_cores = True


def fitting(num_envs: int, on_host: bool) -> Mesh:
    """The mesh of a run: all devices; of a CPU's cores as many as can share the environments evenly, and gain by it.

    Args:
        num_envs: that are shared.
        on_host: they are stepped there, where they have use for the other cores.
    """
    devices = jax.devices()
    if not _has_cores or devices[0].platform != "cpu":
        return mesh()
    powers = [2**power for power in range(len(devices).bit_length())]  # groups of minibatches come in such numbers
    even = [n for n in powers if num_envs % n == 0 and num_envs >= n * FEWEST]
    return mesh(devices[: 1 if on_host else max(even, default=1)])


def mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """All devices, or those given, in a row; a CPU whose cores are devices counts as one of them."""
    if devices is None:
        devices = jax.devices()
        devices = devices[:1] if _has_cores and devices[0].platform == "cpu" else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def compile_options(mesh: Mesh) -> dict[str, int | bool]:
    """What XLA is told about programs over the devices of a CPU."""
    if not is_cpu(mesh) or mesh.size == 1:
        return {}
    # They meet in memory and wait there for the slowest, which may be suspended; XLA would give up after 40 s.
    options = {"xla_cpu_collective_call_terminate_timeout_seconds": 10**6}
    # Threads that help with the products of all would be as many as wait for each other at such a meeting.
    is_full = _has_cores and mesh.size == len(jax.devices())
    return options | ({"xla_cpu_multi_thread_eigen": False} if is_full else {})


def check(num_envs: int, mesh: Mesh, key: str) -> None:
    """ConfigError if the environments, counted by the config key named, cannot be shared out evenly."""
    if num_envs % mesh.size:
        nearest = max(round(num_envs / mesh.size), 1) * mesh.size
        raise ConfigError(f"config.{key}={num_envs} cannot be shared by {mesh.size} devices; the nearest is {nearest}.")


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split(tree: PyTree, spec: Spec, mesh: Mesh) -> PyTree:
    """Of every leaf [N, ...], a share of the environments on each device; other leaves on each.

    Environments of several agents show a row for each agent, and their state is that of environments: both are split.
    What cannot be shared out evenly is on each device.
    """
    numbers = {spec.num_envs, spec.num_envs // spec.num_agents}
    even = {number for number in numbers if number % mesh.size == 0}

    def place(leaf):
        by_env = leaf.ndim > 0 and leaf.shape[0] in even and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return NamedSharding(mesh, PartitionSpec(AXIS) if by_env else PartitionSpec())

    return jax.tree.map(place, tree)


def placement(state: TrainState, spec: Spec, mesh: Mesh) -> TrainState:
    """The sharding of every leaf of a train state; `state` may be abstract."""
    everywhere = jax.tree.map(lambda _: replicated(mesh), state)
    return everywhere._replace(actor=split(state.actor, spec, mesh))


def over(function: Callable, mesh: Mesh) -> Callable:
    """The function, in which each device computes by itself what `functional/shares.py` marks; to be jitted."""

    @functools.wraps(function)
    def within(*arguments):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return within


def put(value: PyTree, sharding: NamedSharding) -> PyTree:
    """Numbers and numpy arrays of the host on the devices; each process gives the whole, and keeps its share of it.

    `jax.device_put` would first compare the values of all processes, behind whatever their devices are at.
    """

    def place(leaf):
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place, value)


def whole(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """An array of which this process has every part: what is split over processes comes to the host of each."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return multihost_utils.process_allgather(leaf, tiled=True)
    return leaf


def is_cpu(mesh: Mesh) -> bool:
    """Whether the devices are CPUs."""
    return mesh.devices.flat[0].platform == "cpu"


def is_local(mesh: Mesh) -> bool:
    """Whether all devices are of this process."""
    return mesh.local_mesh.size == mesh.size


# S runs of one program, with a leading axis [S].


def is_whole(num_runs: int, mesh: Mesh) -> bool:
    """Whether each device takes whole runs; else the environments of every run are split over all devices."""
    return num_runs % mesh.size == 0


def by_run(mesh: Mesh) -> NamedSharding:
    """Of a leaf [S, ...], whole runs on each device."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def stacked(place: PyTree, mesh: Mesh) -> PyTree:
    """The shardings of one run's leaves for leaves of S such runs, each split as it would be alone."""
    return jax.tree.map(lambda sharding: NamedSharding(mesh, PartitionSpec(None, *sharding.spec)), place)


def on_each(function: Callable, mesh: Mesh) -> Callable:
    """A function whose arguments and results are [S, ...], which each device calls for its own runs: none waits."""
    by_run = PartitionSpec(AXIS)
    # Nothing is summed over devices, so there is nothing for check_vma to check.
    return jax.shard_map(function, mesh=mesh, in_specs=by_run, out_specs=by_run, check_vma=False)
