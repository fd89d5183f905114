"""What changes the view of an environment, and its spec with it; transforms compose, and jit where it does.

Letters in shapes: N environments, F numbers of an observation, K frames.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import spaces, wrappers
from jaxrl.envs.wrappers import begin, select
from jaxrl.find import nearest
from jaxrl.types import Array, ConfigError, Environment, Key, PyTree


def hide(env: Environment, positions: tuple[int, ...]) -> Environment:
    """Takes numbers out of the observation, the dict's `policy` where it is a dict; a critic's own stays whole.

    Args:
        env: whose observations shrink; itself if nothing is hidden.
        positions: in the vector [F] that one environment shows.

    Raises:
        ConfigError: the observation is no vector, or has no such positions, or only those.
    """
    if not positions:
        return env
    whole = env.spec.obs.get("policy") if isinstance(env.spec.obs, dict) else env.spec.obs
    size = whole.shape[0] if isinstance(whole, jax.ShapeDtypeStruct) and len(whole.shape) == 1 else 0
    shown = np.array([i for i in range(size) if i not in positions], int)
    if max(positions) >= size or not len(shown):
        what = f"positions in [0, {size - 1}], not all of them" if size else "none, for its observation is no vector"
        raise ConfigError(f"config.env.masked={positions} does not fit the environment: choose {what}.")

    def see(obs):
        return obs | {"policy": obs["policy"][..., shown]} if isinstance(obs, dict) else obs[..., shown]

    return change_obs(env, see)


def keep(env: Environment, names: tuple[str, ...]) -> Environment:
    """Shows only some of the parts of an observation that is a dict; a mask of actions stays.

    Args:
        env: itself if there are no names.
        names: of the parts.

    Raises:
        ConfigError: the observation has no such part, or no parts.
    """
    parts = list(env.spec.obs) if isinstance(env.spec.obs, dict) else []
    for name in names:
        if name not in parts:
            cure = nearest(name, parts) if parts else "the observation has no parts; leave it out."
            raise ConfigError(f"config.env.obs_keys={name!r} is not in the observation; {cure}")
    kept = [name for name in parts if name in (*names, "action_mask")]
    return change_obs(env, lambda obs: {name: obs[name] for name in kept}) if names else env


def flatten(env: Environment) -> Environment:
    """Shows the parts of an observation as one vector of float32, in the order of their names, each as its rows.

    What the critic alone sees, and a mask of actions, stay beside it, and it is then the dict's `policy`.
    """
    special = ("action_mask", "critic")

    def see(obs):
        parts = named(obs)
        rest = {name: parts.pop(name) for name in special if name in parts}
        vectors = [x.reshape(x.shape[0], -1).astype(jnp.float32) for x in jax.tree.leaves(parts)]
        vector = jnp.concatenate(vectors, axis=1)
        return rest | {"policy": vector} if rest else vector

    return change_obs(env, see)


def cast(env: Environment, dtype: str) -> Environment:
    """Shows numbers in another precision, which saves memory in a rollout; images of bytes and masks stay as they are.

    Args:
        env: itself if its numbers are float32 and so is dtype.
        dtype: 'float32', 'bfloat16' or 'float16'.
    """

    def one(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    floats = [x for x in jax.tree.leaves(env.spec.obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    if all(x.dtype == jnp.dtype(dtype) for x in floats):
        return env
    return change_obs(env, lambda obs: jax.tree.map(one, obs))


def change_obs(env: Environment, see: Callable) -> Environment:
    """`env` as another sees it: see is obs [N, ...] -> what is shown [N, ...]."""

    def change(state, timestep):
        return state, timestep._replace(obs=see(timestep.obs), final_obs=see(timestep.final_obs))

    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((env.spec.num_envs, *x.shape), x.dtype), env.spec.obs)
    shown = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), jax.eval_shape(see, rows))
    return Environment(
        lambda key, saved=(): change(*begin(env, key, saved)),
        lambda state, action: change(*env.step(state, action)),
        env.spec._replace(obs=shown),
    )


def change_reward(env: Environment, change: Callable) -> Environment:
    """`env` with another reward: change is reward [N] or [N, H] -> the same shape, as `functional.rewards.shape` is.

    What is reported is then of the changed reward; `ppo.reward_scale` and its like change only what is learned from.
    """

    def step(state, action):
        state, timestep = env.step(state, action)
        return state, timestep._replace(reward=change(timestep.reward))

    return env._replace(step=step)


def stagger(env: Environment) -> Environment:
    """Begins at a random place of the clock in each environment, so that their first episodes end at different times.

    As `init_at_random_ep_len` of rsl_rl, https://github.com/leggedrobotics/rsl_rl.

    Raises:
        ConfigError: the environment's clock is its own.
    """
    state, _ = jax.eval_shape(env.reset, jax.random.key(0)) if env.spec.traceable else (None, None)
    if not isinstance(state, wrappers.State):
        raise ConfigError("config.env.stagger=True needs an environment on device that jaxrl counts for; leave it out.")

    def reset(key):
        reset_key, steps_key = jax.random.split(key)
        state, timestep = env.reset(reset_key)
        steps = jax.random.randint(steps_key, state.steps.shape, 0, env.spec.truncation_interval)
        return state._replace(steps=steps), timestep

    return env._replace(reset=reset)


class Looking(NamedTuple):
    """The state of an environment whose observations depend on what was before."""

    state: PyTree  # of the environment
    memory: PyTree  # [N, ...]
    fresh: Array  # [N] bool: nobody has acted yet on an observation of this episode


def with_memory(env: Environment, first: Callable, then: Callable, see: Callable, obs: PyTree) -> Environment:
    """`env` seen through a memory of its episode.

    Args:
        env: what is looked at.
        first: obs [N, ...] -> memory [N, ...] at the first observation of an episode.
        then: (memory, obs, action, reward) -> memory, after each step; obs is what came of the step.
        see: (obs, memory) -> what is shown.
        obs: of the spec, what is shown.
    """

    def reset(key, saved=()):
        state, timestep = begin(env, key, getattr(saved, "state", ()))
        memory = first(timestep.obs)
        shown = timestep._replace(obs=see(timestep.obs, memory), final_obs=see(timestep.final_obs, memory))
        return Looking(state, memory, jnp.ones(env.spec.num_envs, bool)), shown

    def step(looking, action):
        state, timestep = env.step(looking.state, action)
        after = then(looking.memory, timestep.final_obs, action, timestep.reward)
        fresh = timestep.terminated | timestep.truncated | (looking.fresh & ~timestep.valid)
        memory = select(fresh, first(timestep.obs), after)
        shown = timestep._replace(obs=see(timestep.obs, memory), final_obs=see(timestep.final_obs, after))
        return Looking(state, memory, fresh), shown

    return Environment(reset, step, env.spec._replace(obs=obs))


def remember_last(env: Environment, action: bool = True, reward: bool = True) -> Environment:
    """Shows, beside the observation, what was done last and what it brought: Duan et al. 2016, https://arxiv.org/abs/1611.02779.

    An observation that is an array becomes the dict's `policy`; a dict gets more keys, which a critic that reads
    `critic` does not look at.

    Args:
        env: whose observations grow; itself if nothing is added.
        action: add `last_action` [N, F] float32: the numbers of a Box within its bounds, one-hot the options of
            discrete parts, in order; 0 at the first step of an episode.
        reward: add `last_reward` [N, H] float32, one number for each value head; 0 at the first step of an episode.
    """
    spec, parts = env.spec, {}
    if action:
        parts["last_action"] = lambda taken, brought: spaces.encode(spec.action, taken)
    if reward:
        parts["last_reward"] = lambda taken, brought: brought.reshape(spec.num_envs, spec.num_value_heads)
    if not parts:
        return env

    def then(memory, obs, taken, brought):
        return {name: part(taken, brought) for name, part in parts.items()}

    taken = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), spaces.example(spec.action, spec.num_envs))
    brought = jnp.zeros((spec.num_envs, spec.num_value_heads))
    nothing = jax.tree.map(jnp.zeros_like, then(None, None, taken, brought))
    more = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), nothing)
    return with_memory(env, lambda obs: nothing, then, lambda obs, last: named(obs) | last, named(spec.obs) | more)


def show_time(env: Environment) -> Environment:
    """Shows, beside the observation, the steps since the episode began: `time` [N, 1] float32.

    What an array becomes, and what a critic sees, is as in `remember_last`.
    """
    first = lambda obs: jnp.zeros((env.spec.num_envs, 1))  # noqa: E731
    then = lambda time, obs, action, reward: time + 1.0  # noqa: E731
    more = {"time": jax.ShapeDtypeStruct((1,), jnp.float32)}
    return with_memory(env, first, then, lambda obs, time: named(obs) | {"time": time}, named(env.spec.obs) | more)


def show_return(env: Environment) -> Environment:
    """Shows, beside the observation, the sum of the episode's rewards so far: `return` [N, H] float32.

    What an array becomes, and what a critic sees, is as in `remember_last`.
    """
    shape = (env.spec.num_envs, env.spec.num_value_heads)
    more = {"return": jax.ShapeDtypeStruct(shape[1:], jnp.float32)}
    first = lambda obs: jnp.zeros(shape)  # noqa: E731
    then = lambda total, obs, action, reward: total + reward.reshape(shape)  # noqa: E731
    see = lambda obs, total: named(obs) | {"return": total}  # noqa: E731
    return with_memory(env, first, then, see, named(env.spec.obs) | more)


def stack_frames(env: Environment, number: int) -> Environment:
    """Shows the last K observations as one, side by side along the last axis, the newest last: Mnih et al. 2015.

    At the beginning of an episode the first observation stands for those before it. A mask is not stacked.

    Args:
        env: itself if K is 1.
        number: K.
    """
    if number == 1:
        return env

    def split(obs):
        mask = {name: obs[name] for name in ("action_mask",) if isinstance(obs, dict) and name in obs}
        return mask, {name: x for name, x in obs.items() if name not in mask} if isinstance(obs, dict) else obs

    def first(obs):
        return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * number, axis=1), split(obs)[1])

    def then(frames, obs, action, reward):
        return jax.tree.map(lambda old, x: jnp.concatenate([old[:, 1:], x[:, None]], axis=1), frames, split(obs)[1])

    def see(obs, frames):
        beside = lambda x: jnp.moveaxis(x, 1, -2).reshape(x.shape[0], *x.shape[2:-1], -1)  # noqa: E731
        shown = jax.tree.map(beside, frames)
        return shown | split(obs)[0] if isinstance(obs, dict) else shown

    if not all(leaf.shape for leaf in jax.tree.leaves(split(env.spec.obs)[1])):
        raise ConfigError(
            f"config.env.frame_stack={number} needs observations with an axis, not single numbers; leave it 1."
        )
    wide = lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], number * x.shape[-1]), x.dtype)  # noqa: E731
    mask, rest = split(env.spec.obs)
    rest = jax.tree.map(wide, rest)
    return with_memory(env, first, then, see, rest | mask if mask else rest)


class Sticking(NamedTuple):
    """The state of an environment with sticky actions."""

    state: PyTree  # of the environment
    last: PyTree  # [N, ...] action that was taken
    fresh: Array  # [N] bool: the episode has had none
    key: Key


def stick_actions(env: Environment, probability: float) -> Environment:
    """Each action is, with a probability, the one before it again: Machado et al. 2018, https://arxiv.org/abs/1709.06009.

    Args:
        env: itself if the probability is 0.
        probability: in [0, 1]; the paper has 0.25.
    """
    if not probability:
        return env

    def reset(key, saved=()):
        key, reset_key = jax.random.split(key)
        state, timestep = begin(env, reset_key, getattr(saved, "state", ()))
        last = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), spaces.example(env.spec.action, env.spec.num_envs))
        return Sticking(state, last, jnp.ones(env.spec.num_envs, bool), key), timestep

    def step(sticking, action):
        key, draw_key = jax.random.split(sticking.key)
        again = jax.random.bernoulli(draw_key, probability, sticking.fresh.shape) & ~sticking.fresh
        action = select(again, sticking.last, action)
        state, timestep = env.step(sticking.state, action)
        fresh = timestep.terminated | timestep.truncated | (sticking.fresh & ~timestep.valid)
        return Sticking(state, action, fresh, key), timestep

    return Environment(reset, step, env.spec)


def named(obs: PyTree) -> dict:
    """An observation as a dict, to which names can be added."""
    return dict(obs) if isinstance(obs, dict) else {"policy": obs}
