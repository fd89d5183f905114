"""What happens in environments under a policy, to be looked at by hand."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import spaces
from jaxrl.types import Array, Environment, Key, PyTree


class Trajectory(NamedTuple):
    """T steps of N environments; its repr shows shapes, not numbers."""

    obs: PyTree  # [T, N, ...] what was seen
    action: PyTree  # [T, N, ...] what was done upon it
    reward: Array  # [T, N] or [T, N, H]
    terminated: Array  # [T, N] bool
    truncated: Array  # [T, N] bool
    valid: Array  # [T, N] bool: False where the action went unused
    next_obs: PyTree  # [T, N, ...] what came of it, also where an episode ended
    metrics: dict[str, Array]  # [T, N]

    def __repr__(self):
        shown = (f"{name}={_form(value)}" for name, value in zip(self._fields, self, strict=True))
        return f"Trajectory({', '.join(shown)})"


def rollout(env: Environment, num_steps: int, policy: Callable | None = None, *, key: Key) -> Trajectory:
    """T steps of every environment from a reset.

    Args:
        env: N environments, on device or on the host.
        num_steps: T.
        policy: (obs [N, ...], key) -> action [N, ...]; random actions, within the mask if there is one, by default.
        key: of the reset and the policy.
    """
    reset_key, act_key = jax.random.split(key)
    play = player(env, policy or random_policy(env))
    first, (action, steps) = (jax.jit(play) if env.spec.traceable else play)(
        reset_key, jax.random.split(act_key, num_steps)
    )
    obs = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), first.obs, steps.obs)
    ends = (steps.terminated, steps.truncated, steps.valid)
    return Trajectory(obs, action, steps.reward, *ends, steps.final_obs, steps.metrics)


def player(env: Environment, policy: Callable) -> Callable:
    """(key of the reset, keys [T]) -> first timestep [N, ...], (actions, timesteps) [T, N, ...].

    To be jitted, but for environments on the host.

    Args:
        env: N environments.
        policy: (obs [N, ...], key) -> action [N, ...].
    """

    def one_step(carry, key):
        state, obs = carry
        action = policy(obs, key)
        state, timestep = env.step(state, action)
        return (state, timestep.obs), (action, timestep)

    def play(reset_key, keys):
        state, first = env.reset(reset_key)
        return first, scan(one_step, (state, first.obs), keys)[1]

    scan = jax.lax.scan if env.spec.traceable else _one_by_one
    return play


def random_policy(env: Environment) -> Callable:
    """(obs, key) -> actions of which every one that is allowed is as likely."""

    def policy(obs, key):
        mask = obs.get("action_mask") if isinstance(obs, dict) else None
        return spaces.sample(env.spec.action, key, env.spec.num_envs, mask)

    return jax.jit(policy)


def _one_by_one(step, carry, keys):
    """jax.lax.scan in Python."""
    seen = []
    for key in keys:
        carry, now = step(carry, key)
        seen.append(now)
    return carry, jax.tree.map(lambda *x: jnp.stack(x), *seen)


def _form(value):
    """'float32[100, 8, 27]' of an array, the same of each in a dict or tuple."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_form(part)}" for name, part in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_form, value))})"
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
