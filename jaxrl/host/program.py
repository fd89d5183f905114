"""What a run executes: the config's environment and algorithm, made into compiled functions over a mesh of devices."""

import concurrent.futures
import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled
from ml_collections import ConfigDict

from jaxrl import cores, envs
from jaxrl.acting import epoch as epochs
from jaxrl.acting import hosted
from jaxrl.envs import wrappers
from jaxrl.find import find
from jaxrl.functional import members
from jaxrl.host import evaluation, sharding
from jaxrl.host.shelf import Shelf
from jaxrl.types import Algorithm, ConfigError, Environment, PyTree, TrainState

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SHORT = ("init", "renew", "deal")  # run for milliseconds, once or now and then, and are not worth optimising


@dataclasses.dataclass(frozen=True)
class Epoch:
    """(TrainState, num_iterations []) -> (TrainState, metrics), of two functions that are compiled each by itself."""

    renew: Callable | None  # TrainState -> TrainState, what comes before it; None if nothing does
    run: Callable  # (TrainState, num_iterations []) -> (TrainState, metrics)

    def __call__(self, state, num_iterations):
        return self.run(self.renew(state) if self.renew else state, num_iterations)


class Source(NamedTuple):
    """The functions of a run before they are compiled; pure, but for an environment that lives on the host."""

    env: Environment
    algorithm: Algorithm
    init: Callable  # (seed [] uint32, hyper) -> TrainState
    epoch: Epoch
    evaluate: evaluation.Evaluation | None  # (agent, seed [] uint32, iterations []) -> metrics


class Program(NamedTuple):
    """The same, compiled; arrays that go in must live where they are expected."""

    init: Callable  # () -> TrainState
    epoch: Epoch  # the state that goes in is gone
    evaluate: Callable  # TrainState -> metrics, {} where there is no evaluation
    template: TrainState  # abstract, with shardings
    compile_seconds: float


def mesh(config: ConfigDict) -> Mesh:
    """The devices that share a run."""
    return sharding.fitting(_num_envs(config), on_host=envs.on_host(config.env.suite))


def _num_envs(config):
    return config[config.algorithm.split(".")[-1]].num_envs


@contextlib.contextmanager
def uncollected():
    """Without the collector of garbage, which is a fifth of the time of tracing: most of what that makes lives on."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@uncollected()
def make(config: ConfigDict, mesh: Mesh | None) -> Source:
    """Builds what the config names.

    Args:
        config: resolved.
        mesh: that shares the environments; None where whoever maps the functions says what lives where.

    Raises:
        ConfigError: a name that does not exist, sizes that do not divide, an environment that lives on the host where
            there are several.
    """
    num_envs = _num_envs(config)
    if mesh:
        sharding.check(num_envs, mesh, f"{config.algorithm}.num_envs")
    env = envs.make(config.env, num_envs, wrappers.TOLD)
    algorithm = find("algorithms", config.algorithm).make(config, env.spec)
    renew = None
    if env.spec.traceable:
        init, run = epochs.make(env, algorithm)
        renew = epochs.renewal(env)
    else:
        if not sharding.is_local(mesh):
            raise ConfigError(
                f"config.env.suite={config.env.suite} steps its environments on the host, and they cannot be shared by "
                "several processes; give --num_processes=1, and each host a seed and a workdir of its own."
            )
        init, run = hosted.make(
            env, algorithm, lambda tree: jax.device_put(tree, sharding.split(tree, env.spec, mesh))
        )
    evaluate = _evaluation(config, algorithm, mesh) if config.eval.episodes else None
    # Seeds are arguments: a seed that is a constant of the program would compile anew for each.
    begin = lambda seed, hyper: init(jax.random.key(seed), hyper)  # noqa: E731
    return Source(env, algorithm, begin, Epoch(renew, run), evaluate)


def _evaluation(config, algorithm, mesh):
    env = envs.make(config.env, config.eval.episodes, restarts=False)

    def place(tree):
        return jax.lax.with_sharding_constraint(tree, sharding.split(tree, env.spec, mesh)) if mesh else tree

    def key(seed, iterations):
        # A stream of its own: evaluating more often, or never, leaves training as it was.
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 0xE7A1), iterations)

    made = evaluation.make(env, algorithm, config.eval, place)
    return evaluation.Evaluation(
        lambda *stream: made.deal(key(*stream)),
        lambda agent, first, *stream: made.play(agent, first, key(*stream)),
        env.spec,
    )


def in_turn(source: Source) -> Source:
    """The functions, of which `jax.vmap` gives each member the bits it has alone; at the price of side by side."""
    if not source.env.spec.traceable:
        return source
    evaluate = source.evaluate
    if evaluate:
        evaluate = evaluation.Evaluation(members.in_turn(evaluate.deal), members.in_turn(evaluate.play), evaluate.spec)
    renew, run = source.epoch.renew, source.epoch.run
    epoch = Epoch(renew and members.in_turn(renew), members.in_turn(run))
    return source._replace(init=members.in_turn(source.init), epoch=epoch, evaluate=evaluate)


@uncollected()
def compile(source: Source, mesh: Mesh, seed: int, shelf: Shelf | None = None) -> Program:
    """Compiles all programs of a run, at once where there are several cores.

    Args:
        source: the functions.
        mesh: their devices.
        seed: of the run.
        shelf: where the programs may lie, of an earlier process, and are put if they do not.
    """
    if not source.env.spec.traceable:
        return _with_host(source, mesh, seed)
    began = time.perf_counter()
    host = jax.tree.map(np.float32, source.algorithm.hyper), np.uint32(seed)
    hyper, seed = sharding.put(host, sharding.replicated(mesh))
    done = shelf.load() if shelf else {}
    if not done:
        with shelf.making() if shelf else contextlib.nullcontext():
            done = _build(source, mesh, seed, hyper, shelf)
    run = done["epoch"]
    evaluate = source.evaluate and evaluation.Evaluation(done["deal"], done["play"], source.evaluate.spec)
    # What an epoch takes is what `init` gives.
    template = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        run.args_info[0][0],
        run.input_shardings[0][0],
    )
    return Program(
        init=lambda: done["init"](seed, hyper),
        epoch=Epoch(done.get("renew"), run),
        evaluate=lambda state: evaluate(state.agent, seed, state.iterations) if evaluate else {},
        template=template,
        compile_seconds=time.perf_counter() - began,
    )


def _build(source, mesh, seed, hyper, shelf) -> dict[str, Compiled]:
    everywhere = sharding.replicated(mesh)
    scalar = lambda dtype: jax.ShapeDtypeStruct((), dtype, sharding=everywhere)  # noqa: E731
    start = sharding.over(source.init, mesh)
    template = jax.eval_shape(start, seed, hyper)
    place = sharding.placement(template, source.env.spec, mesh)
    template = jax.tree.map(_placed, template, place)
    init = jax.jit(start, out_shardings=place)  # traced above
    epoch = jax.jit(sharding.over(source.epoch.run, mesh), donate_argnums=0, out_shardings=(place, everywhere))
    options = dict.fromkeys(SHORT, QUICKLY) if sharding.is_cpu(mesh) else {}
    usual, building = sharding.compile_options(mesh), {}

    def build(name, lowered):
        told = usual | options.get(name, {})
        return shelf.compile(name, lowered, told) if shelf else lowered.compile(told)

    # Each keeps several cores busy for a part of its time; more at once than there are cores only wait for each other.
    with concurrent.futures.ThreadPoolExecutor(cores.number()) as pool:

        def begin(name, job, *arguments):
            # Python traces one at a time, while XLA compiles what was traced before.
            building[name] = pool.submit(build, name, job.lower(*arguments))

        begin("epoch", epoch, template, scalar(jnp.int32))  # first, as it takes longest
        if source.evaluate:
            deal, play = (sharding.over(stage, mesh) for stage in (source.evaluate.deal, source.evaluate.play))
            stream = scalar(jnp.uint32), scalar(jnp.int32)
            first = jax.eval_shape(deal, *stream)
            stand = sharding.split(first, source.evaluate.spec, mesh)
            first = jax.tree.map(_placed, first, stand)
            begin("play", jax.jit(play, out_shardings=everywhere), template.agent, first, *stream)
            begin("deal", jax.jit(deal, out_shardings=stand), *stream)
        begin("init", init, seed, hyper)
        if source.epoch.renew:
            renew = jax.jit(sharding.over(source.epoch.renew, mesh), donate_argnums=0, out_shardings=place)
            begin("renew", renew, template)
    return {name: program.result() for name, program in building.items()}


def _placed(x, sharding):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _with_host(source, mesh, seed):
    """The program of a run whose environment lives on the host: that is reset, and the rest compiled by a first try."""
    began = time.perf_counter()
    host = jax.tree.map(np.float32, source.algorithm.hyper), np.uint32(seed)
    hyper, seed = sharding.put(host, sharding.replicated(mesh))
    state = source.init(seed, hyper)
    template = jax.tree.map(lambda x: _placed(x, x.sharding), state)
    evaluate = source.evaluate
    return Program(
        init=lambda: state,
        epoch=source.epoch,
        evaluate=lambda state: evaluate(state.agent, seed, state.iterations) if evaluate else {},
        template=template,
        compile_seconds=time.perf_counter() - began,
    )


def num_parameters(agent: PyTree) -> int:
    """How many numbers the networks of an agent have."""
    return sum(leaf.size for leaf in jax.tree.leaves(agent.params))


def use_compilation_cache() -> None:
    """Lets JAX keep compiled programs on disk, so that the second start is quick; JAX's own settings win."""
    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrl"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
