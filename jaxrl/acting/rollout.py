"""Rollouts on device: T steps of N environments in one scan.

Truncation is exact and nearly free. What an episode is worth after its clock stopped is V(final_obs), and storing
final_obs for every step would double the rollout's memory and the critic's work. But no environment truncates twice
within `spec.truncation_interval` steps, so the rollout is cut into K chunks no longer than that, and each keeps one
final observation for each environment: with the usual time limits K = 1, one row beside T.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxrl.acting import statistics
from jaxrl.envs.wrappers import select
from jaxrl.types import Algorithm, Array, Environment, Key, PyTree, Rollout


class Actor(NamedTuple):
    """Where N environments stand between two rollouts."""

    carry: PyTree  # [N, ...] recurrent state of the policy
    env_state: PyTree
    obs: PyTree  # [N, ...]
    reset: Array  # [N] bool: obs is the first of its episode
    running: statistics.Running


def start(env: Environment, algorithm: Algorithm, key: Key) -> Actor:
    """N environments at the beginning of their first episodes."""
    num_envs = env.spec.num_envs
    env_state, timestep = env.reset(key)
    # The border: an environment may be anybody's.
    chex.assert_shape([timestep.reward, timestep.terminated, timestep.truncated], (num_envs,))
    chex.assert_tree_shape_prefix((timestep.obs, timestep.final_obs), (num_envs,))
    carry = algorithm.carry(num_envs)
    return Actor(carry, env_state, timestep.obs, jnp.ones(num_envs, bool), statistics.start(num_envs))


def rollout(
    env: Environment, algorithm: Algorithm, agent: PyTree, actor: Actor, finished: statistics.Finished, key: Key
) -> tuple[Actor, statistics.Finished, Rollout]:
    """T = algorithm.unroll_length steps of every environment under the policy of `agent`."""
    chunks = num_chunks(algorithm.unroll_length, env.spec.truncation_interval)

    def one_step(state, key):
        actor, finished, final = state
        action, carry, memo = algorithm.act(agent, actor.carry, actor.obs, actor.reset, key)
        env_state, timestep = env.step(actor.env_state, action)
        running, finished = statistics.update(actor.running, finished, timestep)
        final = select(timestep.truncated, (timestep.final_obs, carry), final)
        seen = (actor.obs, actor.reset, timestep.reward, timestep.terminated, timestep.truncated, memo)
        actor = Actor(carry, env_state, timestep.obs, timestep.terminated | timestep.truncated, running)
        return (actor, finished, final), seen

    def one_chunk(state, keys):
        actor, finished = state
        nothing = jax.tree.map(jnp.zeros_like, (actor.obs, actor.carry))
        (actor, finished, final), seen = jax.lax.scan(one_step, (actor, finished, nothing), keys)
        return (actor, finished), (seen, final)

    before = actor
    keys = jax.random.split(key, algorithm.unroll_length).reshape(chunks, -1)
    (actor, finished), (seen, final) = jax.lax.scan(one_chunk, (actor, finished), keys)
    obs, reset, reward, terminated, truncated, memo = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    final_obs, final_carry = final
    return (
        actor,
        finished,
        Rollout(
            obs=obs,
            reset=reset,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            memo=memo,
            carry=before.carry,
            final_obs=final_obs,
            final_carry=final_carry,
            last_obs=actor.obs,
            last_carry=actor.carry,
            last_reset=actor.reset,
        ),
    )


def num_chunks(unroll_length: int, truncation_interval: int) -> int:
    """K: the fewest equal chunks of a rollout in none of which an environment can truncate twice."""
    return next(
        k for k in range(1, unroll_length + 1) if unroll_length % k == 0 and unroll_length // k <= truncation_interval
    )
