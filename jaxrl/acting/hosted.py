"""Epochs in environments that live on the host: steps in a Python loop, choosing and learning compiled.

A step is two compiled calls. `choose` gives actions; the environments move; `note` writes what they show into buffers
on the device, so that nothing is stacked or sent twice. What is learned, and with which keys, is what
`acting/epoch.py` does with an environment that can be traced.

Such environments keep their state to themselves. So a state that is not the one they are in, as when a run is resumed,
goes on with new episodes in all of them; what they want to keep through that is in their env_state (`wrappers.begin`).

Acting and learning take turns. Side by side they would learn from the policy before the last, and gain little where
both have the same cores: of an iteration of EnvPool's HalfCheetah (64 x 64 steps) on 2 CPU cores, simulating takes 41 %
and learning 34 %, and each uses more than one core already.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.acting import statistics
from jaxrl.acting.rollout import Actor, gather, go_on, keys_of, look_around, num_chunks, start
from jaxrl.functional import vectors
from jaxrl.types import Algorithm, Array, Environment, Key, PyTree, Timestep, TrainState


class Memory(NamedTuple):
    """The rollout that is being made."""

    seen: tuple  # [T, N, ...], as `go_on` gives it, and the memo
    final: tuple[PyTree, PyTree]  # [K, N, ...]
    carry: PyTree  # [K, N, ...]


class Pieces(NamedTuple):
    """What is compiled."""

    begin: Callable  # (key, hyper) -> agent, keys of the environments' reset, of the run, of looking around
    split: Callable  # key -> key, raw keys of the choices [T, ...], key of learning
    blank: Callable  # (agent, actor) -> finished, memory, of nothing
    choose: Callable  # (agent, actor, raw keys [T, ...], t []) -> action, carry, memo
    note: Callable  # (actor, finished, memory, carry, memo, env_state, timestep, t []) -> actor, finished, memory
    learn: Callable  # (agent, actor, memory, key) -> agent, metrics
    summarize: Callable  # finished -> metrics


def pieces(env: Environment, algorithm: Algorithm) -> Pieces:
    """The parts of an epoch that can be compiled; `note` overwrites finished and memory, `learn` the agent."""
    length = algorithm.unroll_length
    chunk = length // num_chunks(algorithm, env.spec)

    def begin(key, hyper):
        agent_key, actor_key, key, look_key = jax.random.split(key, 4)
        return algorithm.init(agent_key, hyper), actor_key, key, look_key

    def split(key):
        key, learn_key, act_keys = keys_of(algorithm, key)
        return key, jax.random.key_data(act_keys), learn_key

    def blank(agent, actor):
        _, carry, memo = algorithm.act(agent, actor.carry, actor.obs, actor.reset, jax.random.key(0))
        heads = () if env.spec.num_value_heads == 1 else (env.spec.num_value_heads,)
        reward, yes = jnp.zeros((env.spec.num_envs, *heads)), actor.reset
        seen = (actor.obs, yes, reward, yes, yes, yes, memo)
        rows = lambda number, tree: jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), tree)  # noqa: E731
        chunks = length // chunk
        return statistics.nothing(env.spec.num_envs), Memory(
            rows(length, seen), rows(chunks, (actor.obs, carry)), rows(chunks, carry)
        )

    def choose(agent, actor, keys, t):
        return algorithm.act(agent, actor.carry, actor.obs, actor.reset, jax.random.wrap_key_data(keys[t]))

    def note(actor, finished, memory, carry, memo, env_state, timestep, t):
        k = t // chunk
        began = jax.tree.map(lambda old, now: jnp.where(t % chunk == 0, now, old[k]), memory.carry, actor.carry)
        final = jax.tree.map(lambda x: x[k], memory.final)
        actor, finished, final, seen = go_on(actor, finished, final, carry, env_state, timestep)
        rows = (((*seen, memo), t), (final, k), (began, k))
        write = lambda buffer, new, at: jax.tree.map(lambda b, x: b.at[at].set(x), buffer, new)  # noqa: E731
        return actor, finished, Memory(*(write(old, new, at) for old, (new, at) in zip(memory, rows, strict=True)))

    def learn(agent, actor, memory, key):
        experience = gather(actor, *memory)
        agent, metrics = algorithm.update(agent, experience, key)
        metrics |= statistics.blocked(experience.obs, experience.valid, env.spec.action)
        return agent, vectors.row(metrics)

    return Pieces(
        jax.jit(begin),
        jax.jit(split),
        jax.jit(blank, keep_unused=True),  # what it is made of says on which devices it is to be
        jax.jit(choose),
        jax.jit(note, donate_argnums=(1, 2)),
        jax.jit(learn, donate_argnums=0),
        jax.jit(statistics.summarize),
    )


def make(env: Environment, algorithm: Algorithm, place: Callable = jax.device_put) -> tuple[Callable, Callable]:
    """The two functions that training consists of, for environments that cannot be traced.

    Args:
        env: its reset and step are called from here and return arrays that nobody overwrites.
        algorithm: that learns.
        place: puts a pytree of numpy arrays [N, ...], or of numbers, on the devices.

    Returns:
        init: (key, hyper) -> TrainState, and epoch: (TrainState, number of iterations) -> (TrainState, metrics), as
        those of `acting/epoch.py`.
    """
    compiled = pieces(env, algorithm)
    times = place([np.int32(t) for t in range(algorithm.unroll_length)])
    under_way = None  # the actor that the environments stand with

    def init(key: Key, hyper) -> TrainState:
        nonlocal under_way
        agent, actor_key, key, look_key = compiled.begin(key, hyper)
        agent = look_around(env, algorithm, agent, look_key)
        under_way = place(start(env, algorithm, actor_key))
        warm_up(agent, under_way)
        return TrainState(agent, under_way, key, place(np.int32(0)))

    def warm_up(agent: PyTree, actor: Actor) -> None:
        """Compiles all that an epoch calls, by a step that nobody takes."""
        finished, memory = compiled.blank(agent, actor)
        _, keys, learn_key = compiled.split(jax.random.key(0))
        _, carry, memo = compiled.choose(agent, actor, keys, times[0])
        _, _, reward, no, *_ = memory.seen
        timestep = Timestep(actor.obs, reward[0], no[0], no[0], actor.obs, {}, no[0])
        step = (carry, memo, actor.env_state, place(jax.device_get(timestep)), times[0])
        actor, finished, memory = compiled.note(actor, finished, memory, *step)
        compiled.learn(jax.tree.map(jnp.copy, agent), actor, memory, learn_key)
        compiled.summarize(finished)

    def epoch(state: TrainState, num_iterations: Array) -> tuple[TrainState, dict[str, Array]]:
        nonlocal under_way
        agent, actor, key, iterations = state
        if actor is not under_way:
            with jax.transfer_guard("allow"):
                actor = place(start(env, algorithm, jax.random.fold_in(key, iterations), actor.env_state))
        finished, memory = compiled.blank(agent, actor)
        learned = []
        for _ in range(int(jax.device_get(num_iterations))):
            key, keys, learn_key = compiled.split(key)
            for t in times:
                action, carry, memo = compiled.choose(agent, actor, keys, t)
                with jax.transfer_guard("allow"):
                    env_state, timestep = env.step(actor.env_state, action)
                env_state, timestep = place((env_state, timestep._replace(metrics={})))
                actor, finished, memory = compiled.note(actor, finished, memory, carry, memo, env_state, timestep, t)
            agent, metrics = compiled.learn(agent, actor, memory, learn_key)
            learned.append(metrics)
        under_way = actor
        # Done when it returns, as its environments are: rows of metrics then come as they are made, and not in pairs.
        told = jax.block_until_ready(compiled.summarize(finished))
        metrics = told | jax.tree.map(lambda *rows: np.mean(rows, axis=0), *jax.device_get(learned))
        iterations = place(np.int32(jax.device_get(iterations) + len(learned)))
        return TrainState(agent, actor, key, iterations), metrics

    return init, epoch
