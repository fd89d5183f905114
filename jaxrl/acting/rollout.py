"""Rollouts on device: T steps of N environments in one scan.

Truncation is exact and nearly free. What an episode is worth after its clock stopped is V(final_obs), and storing
final_obs for every step would double the rollout's memory and the critic's work. But no environment truncates twice
within `spec.truncation_interval` steps, so the rollout is cut into K chunks no longer than that, and each keeps one
final observation for each environment: with the usual time limits K = 1, one row beside T. Each chunk also keeps the
recurrent state it began with, so chunks are no longer than the segments that learning starts from.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.acting import statistics
from jaxrl.envs.trajectory import player, random_policy
from jaxrl.envs.wrappers import begin, select
from jaxrl.types import Algorithm, Array, Environment, Key, PyTree, Rollout, Spec, Timestep


class Actor(NamedTuple):
    """Where N environments stand between two rollouts."""

    carry: PyTree  # [N, ...] recurrent state of the policy
    env_state: PyTree
    obs: PyTree  # [N, ...]
    reset: Array  # [N] bool: obs is the first of its episode
    running: statistics.Running


def start(env: Environment, algorithm: Algorithm, key: Key, saved: PyTree = ()) -> Actor:
    """N environments at the beginning of their first episodes; `saved` is the env_state of a run that is resumed."""
    num_envs = env.spec.num_envs
    env_state, timestep = begin(env, key, saved)
    # The border: an environment may be anybody's.
    heads = () if env.spec.num_value_heads == 1 else (env.spec.num_value_heads,)
    chex.assert_shape(timestep.reward, (num_envs, *heads))
    chex.assert_shape([timestep.terminated, timestep.truncated, timestep.valid], (num_envs,))
    chex.assert_tree_shape_prefix((timestep.obs, timestep.final_obs), (num_envs,))
    carry = algorithm.carry(num_envs)
    return Actor(carry, env_state, timestep.obs, jnp.ones(num_envs, bool), statistics.start(num_envs))


def look_around(env: Environment, algorithm: Algorithm, agent: PyTree, key: Key) -> PyTree:
    """The agent after it was shown `algorithm.random_steps` env steps of random actions, rounded up to whole rows."""
    if not algorithm.random_steps:
        return agent
    reset_key, act_key = jax.random.split(key)
    keys = jax.random.split(act_key, -(-algorithm.random_steps // env.spec.num_envs))
    _, (_, steps) = player(env, random_policy(env))(reset_key, keys)
    return algorithm.look(agent, steps.obs, steps.valid)


def keys_of(algorithm: Algorithm, key: Key) -> tuple[Key, Key, Key]:
    """What an iteration draws from, of its own key: the key of the next one, that of learning, [T] of the rollout.

    They stand in a row, one after the other through the run, and no split makes them, which is a dozen small kernels to
    compile and to start. The streams of a counter-based generator are independent whatever the keys: Salmon et al.
    2011, https://www.thesalmons.org/john/random123/papers/random123sc11.pdf.
    """
    words = jax.random.key_data(key)
    row = np.zeros((2 + algorithm.unroll_length, words.size), words.dtype)
    row[:, 0] = np.arange(len(row))
    keys = jax.random.wrap_key_data(words[None] + row, impl=jax.random.key_impl(key))
    return keys[-1], keys[0], keys[1:-1]


def rollout(
    env: Environment, algorithm: Algorithm, agent: PyTree, actor: Actor, finished: statistics.Finished, keys: Key
) -> tuple[Actor, statistics.Finished, Rollout]:
    """T = algorithm.unroll_length steps of every environment under the policy of `agent`; keys: [T]."""
    chunks = num_chunks(algorithm, env.spec)

    def one_step(state, key):
        actor, finished, final = state
        action, carry, memo = algorithm.act(agent, actor.carry, actor.obs, actor.reset, key)
        env_state, timestep = env.step(actor.env_state, action)
        actor, finished, final, seen = go_on(actor, finished, final, carry, env_state, timestep)
        return (actor, finished, final), (*seen, memo)

    def one_chunk(state, keys):
        actor, finished = state
        nothing = jax.tree.map(jnp.zeros_like, (actor.obs, actor.carry))
        carry = actor.carry
        (actor, finished, final), seen = jax.lax.scan(one_step, (actor, finished, nothing), keys)
        return (actor, finished), (seen, final, carry)

    (actor, finished), (seen, final, carry) = jax.lax.scan(one_chunk, (actor, finished), keys.reshape(chunks, -1))
    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    return actor, finished, gather(actor, seen, final, carry)


def go_on(
    actor: Actor,
    finished: statistics.Finished,
    final: tuple[PyTree, PyTree],
    carry: PyTree,
    env_state: PyTree,
    timestep: Timestep,
) -> tuple[Actor, statistics.Finished, tuple[PyTree, PyTree], tuple]:
    """What a step of the environments leaves behind.

    Args:
        actor: as the action was chosen.
        finished: before the step.
        final: observation and carry, [N, ...], where the episode truncated last in this chunk ended.
        carry: of the policy after its choice.
        env_state, timestep: what the environments returned.

    Returns:
        (actor, finished, final) after it, and the first six fields of a Rollout, [N, ...] each.
    """
    running, finished = statistics.update(actor.running, finished, timestep)
    final = select(timestep.truncated, (timestep.final_obs, carry), final)
    ends = (timestep.terminated, timestep.truncated, timestep.valid)
    seen = (actor.obs, actor.reset, timestep.reward, *ends)
    # Still the first observation for whoever has not acted on one since.
    reset = timestep.terminated | timestep.truncated | (actor.reset & ~timestep.valid)
    return Actor(carry, env_state, timestep.obs, reset, running), finished, final, seen


def gather(actor: Actor, seen: tuple, final: tuple[PyTree, PyTree], carry: PyTree) -> Rollout:
    """A rollout of what its steps left.

    Args:
        actor: after the last step.
        seen: `go_on`'s, and the memo, [T, N, ...] each.
        final: `go_on`'s at the end of each chunk, [K, N, ...] each.
        carry: [K, N, ...] of the policy at the beginning of each chunk.
    """
    obs, reset, reward, terminated, truncated, valid, memo = seen
    final_obs, final_carry = final
    return Rollout(
        obs=obs,
        reset=reset,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        memo=memo,
        carry=carry,
        final_obs=final_obs,
        final_carry=final_carry,
        last_obs=actor.obs,
        last_carry=actor.carry,
        last_reset=actor.reset,
    )


def num_chunks(algorithm: Algorithm, spec: Spec) -> int:
    """K: the fewest equal chunks of which segments are made and in none of which an environment can truncate twice."""
    carried = jax.tree.leaves(jax.eval_shape(lambda: algorithm.carry(spec.num_envs)))
    segment_length = algorithm.segment_length if carried else algorithm.unroll_length
    lengths = [length for length in range(1, segment_length + 1) if segment_length % length == 0]
    return algorithm.unroll_length // max(length for length in lengths if length <= spec.truncation_interval)
