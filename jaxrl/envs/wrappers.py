"""Turns one environment of pure functions into N that restart themselves from fresh initial states.

Letters in shapes: N environments, I the interval of renewal.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import spaces
from jaxrl.types import Array, Key, PyTree, Space, Timestep


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
        _, single = jax.eval_shape(jax.vmap(step), state, spaces.example(action, num_envs))
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
