"""Evaluation: full episodes of the policy, all at once, in environments of their own."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.functional import jaxprs
from jaxrl.types import Algorithm, Array, Environment, Key, PyTree, Spec, Timestep

LIMITS = {"interval": (0, None), "episodes": (0, 1_000_000), "max_steps": (1, None)}


def default_config() -> ConfigDict:
    """The group `eval`."""
    config = ConfigDict()
    config.interval = 0  # env steps between evaluations, rounded to whole epochs; 0 = a twentieth of the run
    config.episodes = 128  # played at once, each to its end; 0 = no evaluation
    config.deterministic = True  # the mode of the policy; else it samples
    config.max_steps = 100_000  # of one episode; cuts off an environment that never ends
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """One episode in each environment, in two stages: the first is much to compile and little to compute."""

    deal: Callable  # *stream -> where the episodes begin, [N, ...]
    play: Callable  # (agent, what `deal` gave, *stream) -> metrics
    spec: Spec  # of the environments

    def __call__(self, agent: PyTree, *stream: Array | Key) -> dict[str, Array]:
        """Both; stream: that all chance follows from."""
        return self.play(agent, self.deal(*stream), *stream)


class _Play(NamedTuple):
    carry: PyTree
    env_state: PyTree
    obs: PyTree
    reset: Array
    is_alive: Array  # [N] bool: its first episode goes on
    episode_return: Array  # [N]
    length: Array  # [N] int32
    step: Array  # []


def make(
    env: Environment,
    algorithm: Algorithm,
    config: ConfigDict,
    place: Callable = lambda tree: tree,
    report: Callable | None = None,
) -> Evaluation:
    """Plays one episode in each environment of `env`; pure, but for those that live on the host.

    Args:
        env: N = config.episodes environments, not those that train.
        algorithm: whose policy plays.
        config: the group `eval`.
        place: puts a pytree of [N, ...] where it should live; anywhere, by default.
        report: what is told of the episodes: `summarize` (by default) or `episodes`.

    Returns:
        (agent, key) -> metrics `eval/...`, [] each: mean, std, min and max of the returns, mean and max length; or what
        else `report` tells.
    """
    num_envs = env.spec.num_envs
    report = report or summarize

    def choose(agent, play, key):
        key = jax.random.fold_in(key, play.step)
        if config.deterministic:
            return algorithm.policy(agent, play.carry, play.obs, play.reset)
        return algorithm.act(agent, play.carry, play.obs, play.reset, key)[:2]

    def go_on(play: _Play, carry: PyTree, env_state: PyTree, timestep: Timestep) -> _Play:
        done = timestep.terminated | timestep.truncated
        reward = jnp.sum(timestep.reward.reshape(num_envs, -1), axis=-1)  # over the value heads
        counts = play.is_alive & timestep.valid
        return _Play(
            carry=carry,
            env_state=env_state,
            obs=timestep.obs,
            reset=done | (play.reset & ~timestep.valid),
            is_alive=play.is_alive & ~done,
            episode_return=play.episode_return + jnp.where(counts, reward, 0.0),
            length=play.length + counts,
            step=play.step + 1,
        )

    def goes_on(play: _Play) -> Array:
        return jnp.any(play.is_alive) & (play.step < config.max_steps)

    def deal(key: Key) -> _Play:
        dealt = env.reset(jax.random.split(jax.random.clone(key))[0])  # the other half is for play
        env_state, timestep = place(dealt) if env.spec.traceable else dealt
        everyone, zero = jnp.ones(num_envs, bool), jnp.zeros(num_envs)
        carry = algorithm.carry(num_envs)
        return _Play(carry, env_state, timestep.obs, everyone, everyone, zero, zero.astype(jnp.int32), jnp.int32(0))

    def play(agent: PyTree, first: _Play, key: Key) -> dict[str, Array]:
        act_key = jax.random.split(key)[1]

        def step(play: _Play) -> _Play:
            action, carry = choose(agent, play, act_key)
            return go_on(play, carry, *env.step(play.env_state, action))

        return report(jax.lax.while_loop(goes_on, jaxprs.ready(step, first), first))

    choose_now, go_on_now = jax.jit(choose), jax.jit(go_on)

    def play_on_host(agent: PyTree, play: _Play, key: Key) -> dict[str, Array]:
        act_key = jax.random.split(key)[1]
        while goes_on(play):
            action, carry = choose_now(agent, play, act_key)
            env_state, timestep = env.step(play.env_state, action)
            play = go_on_now(play, carry, env_state, timestep._replace(metrics={}))
        return report(play)

    return Evaluation(deal, play if env.spec.traceable else play_on_host, env.spec)


def summarize(play: _Play) -> dict[str, Array]:
    """The rows `eval/...` of episodes that have ended, or have been cut off."""
    return {
        "eval/episode_return": jnp.mean(play.episode_return),
        "eval/episode_return_std": jnp.std(play.episode_return),
        "eval/episode_return_min": jnp.min(play.episode_return),
        "eval/episode_return_max": jnp.max(play.episode_return),
        "eval/episode_length": jnp.mean(play.length.astype(jnp.float32)),
        "eval/episode_length_max": jnp.max(play.length),
        "eval/episodes": jnp.sum(~play.is_alive),
    }


def episodes(play: _Play) -> dict[str, Array]:
    """Every episode for itself: `return` [N], `length` [N] steps, `ended` [N] bool (else it was cut off)."""
    return {"return": play.episode_return, "length": play.length, "ended": ~play.is_alive}
