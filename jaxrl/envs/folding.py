"""Folds the agents of N environments into rows: agent a of environment e is row e·A + a.

Letters in shapes: N environments, A agents of each, M options.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import wrappers
from jaxrl.types import Array, Box, Discrete, Environment, Key, MultiDiscrete, PyTree, Space, Spec, Timestep


class Joint(NamedTuple):
    """One step of the A agents of one environment, before time limits and restarts."""

    obs: PyTree  # [A, ...]
    reward: Array  # [A]
    terminated: Array  # [] bool: the episode ends for all at once, and who is out before waits for it
    valid: Array  # [A] bool: who acted
    metrics: dict[str, Array]  # [] of the environment: each of its rows shows them


def restarting(
    reset: Callable[[Key], tuple[PyTree, PyTree]],
    step: Callable[[PyTree, PyTree], tuple[PyTree, Joint]],
    num_envs: int,
    num_agents: int,
    action: Space,
    time_limit: int,
    restarts: bool | str = True,
) -> Environment:
    """N environments of A agents as N·A rows, with the clock and the restarts of `wrappers.restarting`.

    The state is that of N environments, [N, ...]; all else that is seen has N·A rows.

    Args:
        reset: key -> (state, obs [A, ...]) of one environment.
        step: (state, action [A, ...]) -> (state, Joint) of one environment.
        num_envs: N.
        num_agents: A.
        action: space of one agent's action, a Box or Discrete.
        time_limit: steps after which an episode is truncated.
        restarts: of `wrappers.restarting`.
    """

    def step_one(state, action):
        state, joint = step(state, action)
        # What happened to whom travels with the metrics, past the clock, which knows only whole environments.
        return state, wrappers.Single(joint.obs, joint.reward, joint.terminated, (joint.metrics, joint.valid))

    everyone = together(action, num_agents)
    reset_all, step_all = wrappers.restarting(reset, step_one, num_envs, everyone, time_limit, restarts)

    def rows(leaf):
        return leaf.reshape(num_envs * num_agents, *leaf.shape[2:])

    def repeat(leaf):
        return jnp.repeat(leaf, num_agents, axis=0)

    def fold(timestep: Timestep, valid) -> Timestep:
        obs, final_obs = jax.tree.map(rows, (timestep.obs, timestep.final_obs))
        terminated, truncated = repeat(timestep.terminated), repeat(timestep.truncated)
        metrics = jax.tree.map(repeat, timestep.metrics[0])
        return Timestep(obs, rows(timestep.reward), terminated, truncated, final_obs, metrics, rows(valid))

    def begin(key):
        state, timestep = reset_all(key)
        return state, fold(timestep, jnp.ones((num_envs, num_agents), bool))

    def go_on(state, action):
        action = action.reshape(num_envs, num_agents, *action.shape[1:])
        state, timestep = step_all(state, action)
        return state, fold(timestep, timestep.metrics[1])

    _, timestep = jax.eval_shape(begin, jax.random.key(0))
    obs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), timestep.obs)
    spec = Spec(num_envs * num_agents, obs, action, time_limit, num_agents=num_agents)
    return Environment(begin, go_on, spec)


def together(action: Box | Discrete, num_agents: int) -> Space:
    """The space of the actions of all agents of one environment, from that of one."""
    if isinstance(action, Discrete):
        return MultiDiscrete((action.size,) * num_agents)
    return action._replace(shape=(num_agents, *action.shape))
