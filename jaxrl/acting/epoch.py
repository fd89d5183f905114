"""The epoch: many iterations of rollout and update, one pure function of the train state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.acting import statistics
from jaxrl.acting.rollout import keys_of, look_around, rollout, start
from jaxrl.envs import wrappers
from jaxrl.functional import jaxprs, vectors
from jaxrl.types import Algorithm, Array, Environment, Key, TrainState


def renewal(env: Environment) -> Callable | None:
    """TrainState -> TrainState: what comes before each epoch of an environment that restarts as `wrappers.TOLD`.

    It is a function of its own so that it can be a program of its own, which compiles beside the epoch's.

    Returns:
        The function; None where there is nothing to do.
    """
    renew = wrappers.renewal(env)

    def before(state: TrainState) -> TrainState:
        return state._replace(actor=state.actor._replace(env_state=renew(state.actor.env_state)))

    return renew and before


def make(env: Environment, algorithm: Algorithm) -> tuple[Callable, Callable]:
    """The two functions that training consists of; jit, vmap (over seeds, hypers) or shard them as you like.

    Returns:
        init: (key, hyper) -> TrainState.
        epoch: (TrainState, num_iterations []) -> (TrainState, metrics); num_iterations is traced, so one compiled
            program serves epochs of every length. Metrics are means over the iterations, [] each; they are a
            vectors.Row, a mapping that crosses to the host in one piece.
    """
    num_envs = env.spec.num_envs

    def init(key: Key, hyper) -> TrainState:
        agent_key, actor_key, key, look_key = jax.random.split(key, 4)
        agent = look_around(env, algorithm, algorithm.init(agent_key, hyper), look_key)
        return TrainState(agent, start(env, algorithm, actor_key), key, jnp.int32(0))

    def iterate(state: TrainState, finished: statistics.Finished):
        key, learn_key, act_keys = keys_of(algorithm, state.key)
        actor, finished, experience = rollout(env, algorithm, state.agent, state.actor, finished, act_keys)
        agent, metrics = algorithm.update(state.agent, experience, learn_key)
        metrics |= statistics.blocked(experience.obs, experience.valid, env.spec.action)
        return TrainState(agent, actor, key, state.iterations + 1), finished, vectors.row(metrics)

    def epoch(state: TrainState, num_iterations: Array) -> tuple[TrainState, vectors.Row]:
        finished = statistics.nothing(num_envs)
        iteration = jaxprs.ready(iterate, state, finished)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), iteration.shapes[2])

        def body(_, carry):
            state, finished, sums = carry
            state, finished, metrics = iteration(state, finished)
            return state, finished, jax.tree.map(jnp.add, sums, metrics)

        state, finished, sums = jax.lax.fori_loop(0, num_iterations, body, (state, finished, zeros))
        metrics = jax.tree.map(lambda x: x / num_iterations, sums)
        return state, vectors.row(statistics.summarize(finished) | dict(metrics))

    return init, epoch
