"""Where the time of an iteration goes: its stages, each compiled and timed by itself, beside what each has to compute.

| stage | what |
|---|---|
| environments | T steps under random actions |
| policy | T samples of actions for recorded observations |
| rollout | both, and what is kept of them |
| update | advantages and the passes of minibatches |
| iteration | rollout and update in the compiled epoch, as training runs it |

Letters in shapes: T steps, N environments.
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.acting import hosted
from jaxrl.acting import rollout as rollouts
from jaxrl.acting import statistics as episodes
from jaxrl.envs.trajectory import random_policy
from jaxrl.host import costs, program, sharding

COLUMNS = (
    "stage",
    "ms",
    "share",
    "env steps/s",
    "products, GFLOP",
    "GFLOP/s",
    "other, G",
    "unfused, MB",
    "scratch, MB",
    "compiled in, s",
)
TURNS = 5  # of each stage, of which the median counts


class Stage(NamedTuple):
    """What a stage took and what it computes."""

    name: str
    seconds: float  # of one iteration, the median of several
    cost: costs.Cost | None  # of one iteration; None where it is not one traced function
    scratch: int | None  # bytes of memory that the compiled stage needs beside what goes in and out
    compile_seconds: float


class Profile(NamedTuple):
    """The stages of an iteration, and whose they are."""

    env: str
    env_steps: int  # of an iteration
    device: str
    stages: tuple[Stage, ...]  # the last is the whole iteration


def profile(config: ConfigDict, trace: Path | None = None) -> Profile:
    """Compiles and times the stages of a run's iteration, on one device.

    Args:
        config: resolved.
        trace: a folder for a trace of three iterations, which `xprof` and Perfetto (https://ui.perfetto.dev) show.

    Raises:
        ConfigError: what the config names cannot be made.
    """
    mesh = sharding.mesh(jax.devices()[:1])
    source = program.make(config, mesh)
    measure = _traced if source.env.spec.traceable else _hosted
    with jax.debug_key_reuse(False):  # a stage is repeated as it is
        stages = tuple(measure(config, source, trace))
    steps = source.env.spec.num_envs * source.algorithm.unroll_length
    return Profile(f"{config.env.suite}/{config.env.name}", steps, mesh.devices.flat[0].device_kind, stages)


def _traced(config, source, trace):
    env, algorithm = source.env, source.algorithm
    num_envs, length = env.spec.num_envs, algorithm.unroll_length
    keys = jax.random.split(jax.random.key(1), length)
    state = jax.jit(source.init)(jnp.uint32(config.seed), jax.tree.map(jnp.float32, algorithm.hyper))
    agent, actor = state.agent, state.actor

    random = random_policy(env)

    def play(env_state, obs, keys):
        def step(carry, key):
            env_state, obs = carry
            env_state, timestep = env.step(env_state, random(obs, key))
            return (env_state, timestep.obs), timestep.reward

        return jax.lax.scan(step, (env_state, obs), keys)

    def choose(agent, carry, obs, reset, keys):
        def step(carry, now):
            obs, reset, key = now
            action, carry, memo = algorithm.act(agent, carry, obs, reset, key)
            return carry, (action, memo)

        return jax.lax.scan(step, carry, (obs, reset, keys))

    def collect(agent, actor, keys):
        return rollouts.rollout(env, algorithm, agent, actor, episodes.nothing(num_envs), keys)

    yield _stage("environments", play, actor.env_state, actor.obs, keys)
    _, _, experience = jax.jit(collect)(agent, actor, keys)
    yield _stage("policy", choose, agent, actor.carry, experience.obs, experience.reset, keys)
    yield _stage("rollout", collect, agent, actor, keys)
    yield _stage("update", algorithm.update, agent, experience, keys[1])
    yield _iteration(source, state, trace)


def _iteration(source, state, trace) -> Stage:
    """The epoch as it is in training, donated; its length is an argument, so that its loop is counted once."""
    one = jnp.int32(1)
    cost = costs.of(source.epoch.run, state, one)
    epoch, compile_seconds = _compile(source.epoch.run, state, one, donate=0)
    scratch = _scratch(epoch)

    def step():
        nonlocal state
        state, metrics = epoch(state, one)
        jax.block_until_ready(metrics)

    seconds = _timed(step)
    with jax.profiler.trace(str(trace)) if trace else contextlib.nullcontext():
        for _ in range(3 if trace else 0):
            step()
    return Stage("iteration", seconds, cost, scratch, compile_seconds)


def _stage(name: str, function: Callable, *arguments) -> Stage:
    compiled, compile_seconds = _compile(function, *arguments)
    seconds = _timed(lambda: jax.block_until_ready(compiled(*arguments)))
    return Stage(name, seconds, costs.of(function, *arguments), _scratch(compiled), compile_seconds)


def _compile(function, *arguments, donate=()):
    began = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return compiled, time.perf_counter() - began


def _scratch(compiled) -> int | None:
    memory = compiled.memory_analysis()
    return None if memory is None else int(memory.temp_size_in_bytes)


def _timed(call: Callable) -> float:
    """Seconds, the median of several calls after a first that does not count."""
    call()
    took = []
    for _ in range(TURNS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _hosted(config, source, trace):
    """Environments on the host are timed as the epoch calls them; all else is the rest of its time."""
    spent = 0.0

    def step(env_state, action):
        nonlocal spent
        action = jax.tree.map(np.asarray, action)  # what the policy still computes is not the environments'
        began = time.perf_counter()
        answer = source.env.step(env_state, action)
        spent += time.perf_counter() - began
        return answer

    init, epoch = hosted.make(source.env._replace(step=step), source.algorithm)
    began = time.perf_counter()
    state = init(jax.random.key(config.seed), jax.tree.map(jnp.float32, source.algorithm.hyper))
    state, _ = epoch(state, jnp.int32(1))
    compile_seconds = time.perf_counter() - began
    whole, environments = [], []
    with jax.profiler.trace(str(trace)) if trace else contextlib.nullcontext():
        for _ in range(TURNS):
            began, spent = time.perf_counter(), 0.0
            state, _ = epoch(state, jnp.int32(1))
            whole.append(time.perf_counter() - began)
            environments.append(spent)
    total, simulated = statistics.median(whole), statistics.median(environments)
    yield Stage("environments", simulated, None, None, 0.0)
    yield Stage("policy and update", total - simulated, None, None, compile_seconds)
    yield Stage("iteration", total, None, None, compile_seconds)


def table(profile: Profile) -> str:
    """The stages as a table in Markdown, with what each reaches of the machine."""
    total = profile.stages[-1].seconds
    lines = [
        f"{profile.env}, {profile.env_steps:,} env steps an iteration, on one {profile.device}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for stage in profile.stages:
        cells = [stage.name, f"{1e3 * stage.seconds:.3g}", f"{stage.seconds / total:.2f}"]
        cells.append(f"{profile.env_steps / stage.seconds:,.0f}")
        if stage.cost is None:
            cells += [""] * 4
        else:
            gflop = stage.cost.products / 1e9
            cells += [f"{gflop:.3g}", f"{gflop / stage.seconds:.3g}", f"{stage.cost.others / 1e9:.3g}"]
            cells.append(f"{stage.cost.bytes / 1e6:,.0f}")
        cells += ["" if stage.scratch is None else f"{stage.scratch / 1e6:,.1f}", f"{stage.compile_seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
