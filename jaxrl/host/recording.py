"""One episode as MuJoCo can draw it: the model of the environment, and where its joints were after each step.

Letters in shapes: T steps, G shapes that are drawn.
"""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl import envs, find
from jaxrl.host import policies

FLOOR = 10.0  # m from the middle to the edge; a plane that is larger is a floor, drawn without end: robots run far


class Recording(NamedTuple):
    """An episode to be drawn."""

    config: ConfigDict  # of the run
    env_steps: int  # of the checkpoint
    model: Any  # mujoco.MjModel
    qpos: np.ndarray  # [T + 1, positions of the joints]
    reward: np.ndarray  # [T]
    seconds: float  # from one step to the next


def record(run: str | Path, selector: str | int | Path = "latest", sampled: bool = False, seed: int = 0) -> Recording:
    """Plays one episode, and keeps what is needed to draw it.

    Args:
        run, selector: as `policies.load` takes them.
        sampled: actions are drawn from the policy; else they are its mode.
        seed: of the initial state, and of what is drawn.

    Raises:
        ConfigError: as `policies.load`; nothing of this suite can be drawn.
    """
    found = policies.locate(run, selector)
    choose_renderer()
    scene = envs.scene(found.config.env)
    env = envs.make(found.config.env, 1, restarts=False)
    algorithm = find.find("algorithms", found.config.algorithm).make(found.config, env.spec)
    agent = policies.restore(found, algorithm)

    @jax.jit
    def step(agent, carry, env_state, obs, begins, key):
        if sampled:
            action, carry, _ = algorithm.act(agent, carry, obs, begins, key)
        else:
            action, carry = algorithm.policy(agent, carry, obs, begins)
        env_state, timestep = env.step(env_state, action)
        return carry, env_state, timestep, scene.qpos(env_state)[0]

    reset_key, act_key = jax.random.split(jax.random.key(seed))
    env_state, timestep = jax.jit(env.reset)(reset_key)
    carry, begins = algorithm.carry(1), jnp.ones(1, bool)
    positions, rewards = [scene.qpos(env_state)[0]], []
    for number in range(found.config.eval.max_steps):
        key = jax.random.fold_in(act_key, number)
        carry, env_state, timestep, qpos = step(agent, carry, env_state, timestep.obs, begins, key)
        begins = jnp.zeros(1, bool)
        positions.append(qpos)
        rewards.append(timestep.reward.sum())
        if timestep.terminated[0] | timestep.truncated[0]:
            break
    positions, rewards = jax.device_get((positions, rewards))
    return Recording(
        found.config, found.env_steps, scene.model, np.stack(positions), np.array(rewards, np.float32), scene.seconds
    )


def choose_renderer() -> None:
    """Lets MuJoCo draw without a screen where there is none; of use only before it is imported."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def frames(recording: Recording, rate: float) -> tuple[np.ndarray, float]:
    """The positions to show, [F, positions], and the seconds from one to the next: at most `rate` a second."""
    every = max(round(1.0 / (rate * recording.seconds)), 1)
    return recording.qpos[::every], every * recording.seconds
