"""One episode to be looked at: each step of it, and for what MuJoCo can draw, the model and where its joints were.

Letters in shapes: T steps, N rows of observations: one for each agent.
"""

import copy
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl import envs, find
from jaxrl.host import policies
from jaxrl.types import PyTree

FLOOR = 10.0  # m from the middle to the edge; a plane that is larger is a floor, drawn without end: robots run far


class Recording(NamedTuple):
    """An episode to be drawn."""

    config: ConfigDict  # of the run
    env_steps: int  # of the checkpoint
    model: Any  # mujoco.MjModel
    qpos: np.ndarray  # [T + 1, positions of the joints]
    reward: np.ndarray  # [T]
    seconds: float  # from one step to the next


class Moment(NamedTuple):
    """What is seen before the first step, or after one."""

    view: Any  # what the player's `look` makes of it
    action: PyTree  # of the first agent, that led here; None at first
    reward: float  # of the first agent, over the value heads
    is_last: bool


class Player:
    """Plays episodes in one environment, to be looked at; compiled once, whatever agent plays.

    Args:
        config: of the run.
        stage: of `envs.stage(config.env)`.
        look: (state, obs), as `envs.Shown` has them -> arrays that are kept of a moment.
        sampled: actions are drawn from the policy; else they are its mode.
        of_obs: only obs is looked at, of which the last is known also where the state is of the next episode already.
    """

    def __init__(
        self, config: ConfigDict, stage: envs.Stage, look: Callable, sampled: bool = False, of_obs: bool = False
    ):
        self._config, self.stage, self._sampled = config, stage, sampled
        only = stage.scene or stage.camera
        self._loses_last = bool(only and only.env) and not of_obs
        self.algorithm = find.find("algorithms", config.algorithm).make(config, stage.env.spec)
        env = stage.env

        def see(env_state):
            return look(*envs.shown(env_state))

        def step(agent, carry, env_state, obs, begins, key):
            action, carry = choose(agent, carry, obs, begins, key)
            env_state, timestep = env.step(env_state, action)
            return action, carry, env_state, timestep, see(env_state)

        if env.spec.traceable:
            choose, self._step = self._choose, jax.jit(step)
            self._reset, self._see = jax.jit(env.reset), jax.jit(see)
        else:
            choose, self._step = jax.jit(self._choose), step
            self._reset, self._see = env.reset, see

    def _choose(self, agent, carry, obs, begins, key):
        if self._sampled:
            return self.algorithm.act(agent, carry, obs, begins, key)[:2]
        return self.algorithm.policy(agent, carry, obs, begins)

    def episode(self, agent: PyTree, seed: int = 0) -> Iterator[Moment]:
        """One episode, a moment at a time; the last has no view if the environment has begun its next one by then.

        Args:
            agent: of a checkpoint.
            seed: of the initial state, and of what is drawn.
        """
        num = self.stage.env.spec.num_envs
        reset_key, act_key = jax.random.split(jax.random.key(seed))
        env_state, timestep = self._reset(reset_key)
        yield Moment(jax.device_get(self._see(env_state)), None, 0.0, False)
        carry, begins = self.algorithm.carry(num), jnp.ones(num, bool)
        for number in range(self._config.eval.max_steps):
            key = jax.random.fold_in(act_key, number)
            action, carry, env_state, timestep, view = self._step(agent, carry, env_state, timestep.obs, begins, key)
            ended, valid = timestep.terminated | timestep.truncated, timestep.valid
            done, valid, reward = map(np.asarray, jax.device_get((ended, valid, timestep.reward)))
            begins = jnp.asarray(done | (begins & ~valid))
            own = jax.tree.map(lambda x: np.asarray(x)[0], jax.device_get(action))
            view = None if done[0] and self._loses_last else jax.device_get(view)
            yield Moment(view, own, float(reward[0].sum()), bool(done[0]))
            if done[0]:
                return


def record(run: str | Path, selector: str | int | Path = "latest", sampled: bool = False, seed: int = 0) -> Recording:
    """Plays one episode, and keeps what is needed to draw its bodies.

    Args:
        run, selector: as `policies.load` takes them.
        sampled: actions are drawn from the policy; else they are its mode.
        seed: of the initial state, and of what is drawn.

    Raises:
        ConfigError: as `policies.load`; nothing of this suite has bodies.
    """
    found = policies.locate(run, selector)
    choose_renderer()
    envs.scene(found.config.env)
    player = of_bodies(found.config, envs.stage(found.config.env), sampled)
    return keep(found, player, policies.restore(found, player.algorithm), seed)


def of_bodies(config: ConfigDict, stage: envs.Stage, sampled: bool) -> Player:
    """A player that looks at the positions of the joints."""
    return Player(config, stage, lambda state, obs: stage.scene.qpos(state)[0], sampled)


def keep(found: policies.Found, player: Player, agent: PyTree, seed: int) -> Recording:
    """The episode of a player that looks at the positions of the joints."""
    scene, moments = player.stage.scene, player.episode(agent, seed)
    first = next(moments)
    model = copy.copy(scene.model)  # of this episode: on the host, the next one may change it
    moments = [first, *moments]
    qpos = np.stack([moment.view for moment in moments if moment.view is not None])
    reward = np.array([moment.reward for moment in moments[1:]], np.float32)
    return Recording(found.config, found.env_steps, model, qpos, reward, scene.seconds)


def choose_renderer() -> None:
    """Lets MuJoCo draw without a screen where there is none; of use only before it is imported."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def frames(recording: Recording, rate: float) -> tuple[np.ndarray, float]:
    """The positions to show, [F, positions], and the seconds from one to the next: at most `rate` a second."""
    every = max(round(1.0 / (rate * recording.seconds)), 1)
    return recording.qpos[::every], every * recording.seconds
