"""The program of S members at once: compiled, placed over a mesh, and measured before it runs."""

import concurrent.futures
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxrl import cores
from jaxrl.host import program, sharding
from jaxrl.types import PyTree, TrainState

# How members share the program. `map` trains them one after the other in it: each is then compiled as it would be
# alone, and gives the same bits. `vmap` trains them side by side, as an accelerator wants it; sums then run in another
# order, which on a CPU costs bits and gains a tenth at most (measured: benchmarks/sweep.py).
MAPPINGS: dict[str, Callable] = {
    "map": lambda function, arguments: jax.lax.map(lambda mapped: function(*mapped), arguments),
    "vmap": lambda function, arguments: jax.vmap(function)(*arguments),
}
SHARE = 0.9  # of the free memory that a wave may take


class Wave(NamedTuple):
    """The compiled functions of S members; what goes in and comes out is [S, ...] where nothing else is said."""

    init: Callable  # (seed, hyper) of one member -> its TrainState, without [S]
    epoch: program.Epoch  # (states, num_iterations [S]) -> (states, metrics); the states that go in are gone
    evaluate: Callable  # (states, seeds [S]) -> metrics, {} where there is no evaluation
    template: TrainState  # of one member, abstract
    place: TrainState  # shardings of S of them
    put_numbers: Callable  # (S numbers, dtype) -> [S], where the functions expect it
    num_bytes: int  # that a device needs at once, as the compiler counts them
    compile_seconds: float
    steps: int  # env steps of one iteration of one member


def default_mapping(mesh: Mesh) -> str:
    """'map' on a CPU, 'vmap' elsewhere."""
    return "map" if sharding.is_cpu(mesh) else "vmap"


def compile(config: ConfigDict, hyper: PyTree, size: int, mesh: Mesh, mapping: str) -> Wave:
    """Compiles what `size` members of one group need.

    Args:
        config: of any of them.
        hyper: of any of them.
        size: S; where it is a multiple of the devices, each device trains whole members, else all share each one.
        mesh: of the devices.
        mapping: of MAPPINGS.

    Raises:
        ConfigError: sizes that do not divide.
    """
    began = time.perf_counter()
    is_whole, over = sharding.is_whole(size, mesh), MAPPINGS[mapping]
    home = sharding.mesh([mesh.devices.flat[0]]) if is_whole else mesh  # where a member is born and restored
    at_home = sharding.replicated(home)
    by_run = sharding.by_run(mesh) if is_whole else sharding.replicated(mesh)
    numbers = lambda dtype: _abstract((size,), dtype, by_run)  # noqa: E731
    source = program.make(config, None if is_whole else mesh)
    seed = _abstract((), np.uint32, at_home)
    hyper = jax.tree.map(lambda x: _abstract(np.shape(x), np.float32, at_home), hyper)
    born = jax.eval_shape(source.init, seed, hyper)
    alone = sharding.placement(born, source.env.spec, home)

    def of_all(one, alone):
        """The shardings of S such trees, and those trees."""
        place = jax.tree.map(lambda _: by_run, one) if is_whole else sharding.stacked(alone, mesh)
        return place, jax.tree.map(lambda x, sharding: _abstract((size, *x.shape), x.dtype, sharding), one, place)

    place, states = of_all(born, alone)

    share = sharding.on_each if is_whole and mesh.size > 1 else sharding.over

    def job(function, out_shardings, **options):
        """A function of one member, as it is compiled for all."""
        return jax.jit(share(lambda *given: over(function, given), mesh), out_shardings=out_shardings, **options)

    jobs = {
        "init": (jax.jit(sharding.over(source.init, home), out_shardings=alone), seed, hyper),
        "epoch": (job(source.epoch.run, (place, by_run), donate_argnums=0), states, numbers(np.int32)),
    }
    if source.epoch.renew:
        jobs["renew"] = (job(source.epoch.renew, place, donate_argnums=0), states)
    if source.evaluate:
        stream = numbers(np.uint32), numbers(np.int32)
        first = jax.eval_shape(source.evaluate.deal, seed, np.int32(0))
        stand, first = of_all(first, sharding.split(first, source.evaluate.spec, home))
        jobs["deal"] = (job(source.evaluate.deal, stand), *stream)
        jobs["play"] = (job(source.evaluate.play, by_run), states.agent, first, *stream)
    # As in `program.compile`, so that the bits of a member are the same.
    options = dict.fromkeys(program.SHORT, program.QUICKLY) if sharding.is_cpu(mesh) else {}

    def build(name):
        function, *arguments = jobs[name]
        return function.lower(*arguments).compile(options.get(name))

    with concurrent.futures.ThreadPoolExecutor(cores.number()) as pool:
        done = dict(zip(jobs, pool.map(build, jobs), strict=True))

    def evaluate(states, seeds):
        stream = seeds, states.iterations
        return done["play"](states.agent, done["deal"](*stream), *stream) if source.evaluate else {}

    return Wave(
        init=lambda seed, hyper: done["init"](
            *jax.device_put((np.uint32(seed), jax.tree.map(np.float32, hyper)), at_home)
        ),
        epoch=program.Epoch(done.get("renew"), done["epoch"]),
        evaluate=evaluate,
        template=jax.tree.map(lambda x, sharding: _abstract(x.shape, x.dtype, sharding), born, alone),
        place=place,
        put_numbers=lambda numbers, dtype: jax.device_put(np.array(numbers, dtype), by_run),
        num_bytes=_bytes(done["epoch"], done.get("play")),
        compile_seconds=time.perf_counter() - began,
        steps=source.env.spec.num_envs * source.algorithm.unroll_length,
    )


def to_host(state: TrainState) -> TrainState:
    """A state on the host: its arrays as numpy's, its keys as small as they are."""
    return jax.tree.map(lambda x: x if _is_key(x) else np.array(x), state)


def put(states: list[TrainState], place: TrainState) -> TrainState:
    """One state [S, ...], where it should live, of S states on the host."""

    def stack(sharding, *leaves):
        if not _is_key(leaves[0]):
            return jax.device_put(np.stack(leaves), sharding)
        data = np.stack([jax.device_get(jax.random.key_data(leaf)) for leaf in leaves])
        return jax.device_put(jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaves[0])), sharding)

    return jax.tree.map(stack, place, *states)


def take(states: TrainState) -> Callable[[int], TrainState]:
    """S states on the host, from which any member's own can be had."""
    data = jax.device_get(jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, states))
    impls = jax.tree.map(lambda x: str(jax.random.key_impl(x)) if _is_key(x) else "", states)

    def pick(index, leaf, impl):
        return jax.random.wrap_key_data(leaf[index], impl=impl) if impl else np.asarray(leaf[index])

    return lambda index: jax.tree.map(functools.partial(pick, index), data, impls)


def fitting(size: int, count: int, num_bytes: int, free: int, devices: int) -> int:
    """How many of `count` members to try next, where `size` of them take more than the free memory.

    Waves are made equally long, so that one program serves all.
    """
    most = max(min(int(size * free / num_bytes), size - 1), 1)
    even = -(-count // -(-count // most))
    return even - even % devices if even > devices else even


def free_bytes(mesh: Mesh) -> int | None:
    """Memory that a wave may take on each device; None where nothing tells."""
    device = mesh.devices.flat[0]
    told = device.memory_stats() or {}
    if "bytes_limit" in told:
        return int(SHARE * (told["bytes_limit"] - told["bytes_in_use"]))
    if device.platform != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return kibibytes and int(SHARE * 1024 * kibibytes / mesh.size)


def _is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _abstract(shape, dtype, sharding):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _bytes(epoch, play):
    """Of the program that needs more; while an evaluation runs, the whole states lie beside it."""
    of_epoch, states = _of(epoch)
    return max(of_epoch, states + _of(play)[0] if play else 0)


def _of(compiled):
    """(bytes at the peak, bytes of what goes in) on one device."""
    told = compiled.memory_analysis()
    into = told.argument_size_in_bytes
    return into + told.output_size_in_bytes - told.alias_size_in_bytes + told.temp_size_in_bytes, into
