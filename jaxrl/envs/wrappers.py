"""Turns one environment of pure functions into N that restart themselves from fresh initial states.

Letters in shapes: N environments, I the interval of renewal.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import (
    Array,
    Box,
    ConfigError,
    Discrete,
    Environment,
    Key,
    MultiDiscrete,
    PyTree,
    Space,
    Timestep,
)


class Single(NamedTuple):
    """One step of one environment, before time limits and restarts."""

    obs: PyTree
    reward: Array  # [], or [H] with H value heads
    terminated: Array  # [] bool
    metrics: dict[str, Array]


class State(NamedTuple):
    """N environments under way, and the initial states they will restart from."""

    state: PyTree  # [N, ...] of the environments
    fresh: PyTree  # [N, ...] (state, obs) that each environment restarts from; () without restarts
    steps: Array  # [N] int32, of the episode under way
    turn: Array  # [] int32 in [0, I), which environments get a new initial state next
    key: Key


def restarting(
    reset: Callable[[Key], tuple[PyTree, PyTree]],
    step: Callable[[PyTree, PyTree], tuple[PyTree, Single]],
    num_envs: int,
    action: Space,
    time_limit: int,
    restarts: bool = True,
) -> tuple[Callable, Callable]:
    """N environments with a time limit that go on with a new episode in the step that ends one.

    A real reset costs about as much as a step, so not every environment can have one in every step: each has an
    initial state in store, and one environment in I gets its store renewed at each step. An episode that lasts
    longer than I steps therefore never begins like the one before it, and no two environments begin alike.

    Args:
        reset: key -> (state, obs) of one environment.
        step: (state, action) -> (state, Single) of one environment.
        num_envs: N.
        action: space of one environment's action.
        time_limit: steps after which an episode is truncated.
        restarts: False plays one episode in each environment and has no store; what follows its end means nothing.

    Returns:
        reset: key -> (State, Timestep), and step: (State, action [N, ...]) -> (State, Timestep).
    """
    interval = renewal_interval(num_envs)

    def draw(keys):
        draw_one = jax.vmap(reset)
        return strong((draw_one if keys.ndim == 1 else jax.vmap(draw_one))(keys))

    def begin(key):
        key, begin_key = jax.random.split(key)
        if restarts:  # one call for both: a reset is much to compile
            both = draw(jax.random.split(begin_key, (num_envs, 2)))
            (state, obs), fresh = (jax.tree.map(lambda x, i=i: x[:, i], both) for i in (0, 1))
        else:
            (state, obs), fresh = draw(jax.random.split(begin_key, num_envs)), ()
        _, single = jax.eval_shape(jax.vmap(step), state, example(action, num_envs))
        metrics, reward = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (single.metrics, single.reward))
        nothing = jnp.zeros(num_envs, bool)
        timestep = Timestep(obs, reward, nothing, nothing, obs, metrics, ~nothing)
        return State(state, fresh, jnp.zeros(num_envs, jnp.int32), jnp.int32(0), key), timestep

    def go_on(env_state, action):
        key, renew_key = jax.random.split(env_state.key)
        state, single = jax.vmap(step)(env_state.state, action)
        steps = env_state.steps + 1
        terminated = single.terminated
        truncated = (steps >= time_limit) & ~terminated
        done = terminated | truncated
        obs, fresh, turn = single.obs, env_state.fresh, env_state.turn
        if restarts:
            fresh = renew(fresh, draw(jax.random.split(renew_key, num_envs // interval)), turn, interval)
            state, obs = select(done, fresh, (state, obs))
            turn = (turn + 1) % interval
        valid = jnp.ones_like(done)
        timestep = Timestep(obs, single.reward, terminated, truncated, single.obs, single.metrics, valid)
        return strong(State(state, fresh, jnp.where(done, 0, steps), turn, key)), strong(timestep)

    return begin, go_on


def example(space: Space, num_envs: int) -> PyTree:
    """The shapes and types of the actions of N environments, [N, ...]: of jax.ShapeDtypeStruct."""
    if isinstance(space, Box):
        return jax.ShapeDtypeStruct((num_envs, *space.shape), jnp.float32)
    if isinstance(space, Discrete):
        return jax.ShapeDtypeStruct((num_envs,), jnp.int32)
    if isinstance(space, MultiDiscrete):
        return jax.ShapeDtypeStruct((num_envs, len(space.sizes)), jnp.int32)
    return tuple(example(part, num_envs) for part in space)


def renewal_interval(num_envs: int) -> int:
    """I: a power of two up to 16 that divides N and leaves 8 renewals a step, so that 8 devices have equal shares."""
    interval = math.gcd(num_envs, 16)
    while interval > 1 and num_envs // interval < 8:
        interval //= 2
    return interval


def renew(store: PyTree, new: PyTree, turn: Array, interval: int) -> PyTree:
    """Writes N/I new entries over those environments of [N, ...] whose turn it is: i with i mod I = turn."""

    def write(old, new):
        table = old.reshape(old.shape[0] // interval, interval, *old.shape[1:])
        mine = (jnp.arange(interval) == turn).reshape(1, interval, *([1] * (old.ndim - 1)))
        return jnp.where(mine, new[:, None], table).reshape(old.shape)

    return jax.tree.map(write, store, new)


def select(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """Leaf by leaf [N, ...], `yes` where the [N] condition holds."""

    def one(yes, no):
        return jnp.where(condition.reshape(-1, *([1] * (no.ndim - 1))), yes, no)

    return jax.tree.map(one, yes, no)


def strong(tree: PyTree) -> PyTree:
    """The same arrays without weak types, which would make a program compile twice."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), tree)


def repeat_action(step: Callable, times: int) -> Callable:
    """A step that holds the action for `times` steps, sums their rewards and stops where the episode terminates."""
    if times == 1:
        return step

    def repeated(state, action):
        first = step(state, action)

        def again(carry, _):
            state, last = carry
            next_state, single = step(state, action)
            single = single._replace(reward=last.reward + single.reward)
            return jax.tree.map(lambda a, b: jnp.where(last.terminated, a, b), carry, (next_state, single)), None

        return jax.lax.scan(again, strong(first), None, length=times - 1)[0]

    return repeated


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
    whole = env.spec.obs["policy"] if isinstance(env.spec.obs, dict) else env.spec.obs
    size = whole.shape[0] if isinstance(whole, jax.ShapeDtypeStruct) and len(whole.shape) == 1 else 0
    shown = np.array([i for i in range(size) if i not in positions], int)
    if max(positions) >= size or not len(shown):
        what = f"positions in [0, {size - 1}], not all of them" if size else "none, for its observation is no vector"
        raise ConfigError(f"config.env.masked={positions} does not fit the environment: choose {what}.")

    def see(obs):
        return obs | {"policy": obs["policy"][..., shown]} if isinstance(obs, dict) else obs[..., shown]

    def blind(state, timestep):
        return state, timestep._replace(obs=see(timestep.obs), final_obs=see(timestep.final_obs))

    part = jax.ShapeDtypeStruct(shown.shape, whole.dtype)
    obs = env.spec.obs | {"policy": part} if isinstance(env.spec.obs, dict) else part
    return Environment(
        lambda key: blind(*env.reset(key)),
        lambda state, action: blind(*env.step(state, action)),
        env.spec._replace(obs=obs),
    )


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
        parts["last_action"] = lambda taken, brought: encode(spec.action, taken)
    if reward:
        parts["last_reward"] = lambda taken, brought: brought.reshape(spec.num_envs, spec.num_value_heads)
    if not parts:
        return env

    def memory(taken, brought):
        return {name: part(taken, brought) for name, part in parts.items()}

    def see(obs, last):
        return (obs if isinstance(obs, dict) else {"policy": obs}) | last

    def forget(last):
        return jax.tree.map(jnp.zeros_like, last)

    def reset(key):
        state, timestep = env.reset(key)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example(spec.action, spec.num_envs))
        nothing = forget(memory(nothing, timestep.reward))
        return state, timestep._replace(obs=see(timestep.obs, nothing), final_obs=see(timestep.final_obs, nothing))

    def step(state, taken):
        state, timestep = env.step(state, taken)
        last = memory(taken, timestep.reward)
        after = select(timestep.terminated | timestep.truncated, forget(last), last)
        return state, timestep._replace(obs=see(timestep.obs, after), final_obs=see(timestep.final_obs, last))

    _, timestep = jax.eval_shape(reset, jax.random.key(0))
    obs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), timestep.obs)
    return Environment(reset, step, spec._replace(obs=obs))


def encode(space: Space, action: PyTree) -> Array:
    """Actions [N, ...] of any space as [N, F] float32: a Box's numbers within its bounds, options one-hot, in order."""
    if isinstance(space, Box):
        return jnp.clip(action, space.low, space.high).reshape(action.shape[0], -1)
    if isinstance(space, Discrete):
        return jax.nn.one_hot(action, space.size)
    if isinstance(space, MultiDiscrete):
        parts, actions = map(Discrete, space.sizes), jnp.moveaxis(action, 1, 0)
    else:
        parts, actions = space, action
    return jnp.concatenate([encode(part, taken) for part, taken in zip(parts, actions, strict=True)], axis=1)
