"""Returns and lengths of the episodes that end during training, kept on device and reduced once an epoch."""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.functional import masked
from jaxrl.functional.distributions import option_sizes
from jaxrl.types import Array, PyTree, Space, Timestep


class Running(NamedTuple):
    """The episode under way in each environment."""

    episode_return: Array  # [N]
    length: Array  # [N] int32


class Finished(NamedTuple):
    """Sums over what happened in each environment since the epoch began."""

    steps: Array  # [N] that were transitions
    reward: Array  # [N] of those
    episodes: Array  # [N] that ended
    episode_return: Array  # [N] of those
    length: Array  # [N] of those
    length_max: Array  # [N] longest episode, ended or under way


def start(num_envs: int) -> Running:
    """Nothing has happened yet."""
    return Running(jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32))


def nothing(num_envs: int) -> Finished:
    """No episode has ended yet."""
    zero = jnp.zeros(num_envs)
    return Finished(zero, zero, zero, zero, zero, zero)


def update(running: Running, finished: Finished, timestep: Timestep) -> tuple[Running, Finished]:
    """Counts one step of N environments."""
    done = timestep.terminated | timestep.truncated
    reward = jnp.sum(timestep.reward.reshape(done.size, -1), axis=-1)  # over the value heads
    reward = jnp.where(timestep.valid, reward, 0.0)
    episode_return = running.episode_return + reward
    length = running.length + timestep.valid
    ended = done.astype(jnp.float32)
    finished = Finished(
        finished.steps + timestep.valid,
        finished.reward + reward,
        finished.episodes + ended,
        finished.episode_return + ended * episode_return,
        finished.length + ended * length,
        jnp.maximum(finished.length_max, length),
    )
    return Running(jnp.where(done, 0.0, episode_return), jnp.where(done, 0, length)), finished


def blocked(obs: PyTree, valid: Array, space: Space) -> dict[str, Array]:
    """{rollout/blocked: share of observations whose `action_mask` allows no option of some discrete part}.

    {} where there is no mask. Inside a compiled program nothing can be raised; whoever reads the metric can.

    Args:
        obs: pytree of [..., *sample].
        valid: [...] bool, False where nothing was chosen.
        space: of the actions.
    """
    if not (isinstance(obs, dict) and "action_mask" in obs):
        return {}
    starts = np.cumsum((0, *option_sizes(space)))
    parts = [jnp.any(obs["action_mask"][..., a:b], axis=-1) for a, b in itertools.pairwise(starts)]
    return {"rollout/blocked": masked.mean(~jnp.all(jnp.stack(parts), axis=0), valid)}


def summarize(finished: Finished) -> dict[str, Array]:
    """The rows `rollout/...`; means over episodes are NaN if none ended."""
    rows = (finished.steps, finished.reward, finished.episodes, finished.episode_return, finished.length)
    steps, reward, episodes, episode_return, length = (jnp.sum(row) for row in rows)
    return {
        "rollout/reward": reward / steps,
        "rollout/episodes": episodes,
        "rollout/episode_return": episode_return / episodes,
        "rollout/episode_length": length / episodes,
        "rollout/episode_length_max": jnp.max(finished.length_max),
    }
