"""Turns one environment of pure functions into N that restart themselves from fresh initial states.

Letters in shapes: N environments.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import spaces
from jaxrl.functional import hoist, jaxprs, lanes, shares
from jaxrl.types import Array, Environment, Key, PyTree, Space, Timestep

PERIOD = 32  # steps
TOLD = "told"  # restarts from stores that are renewed by who steps, with `renewal`
STORED = 512  # steps for which all stores of TOLD last, or initial states in them, whichever are fewer
CACHED = 350_000  # bytes of states that a CPU steps fastest at once: Brax's ant takes 0.81 of the time in halves of 256
LEAST = 128  # environments, below which stepping fewer at once gains nothing


class Single(NamedTuple):
    """One step of one environment, before time limits and restarts."""

    obs: PyTree
    reward: Array  # [], or [H] with H value heads
    terminated: Array  # [] bool
    metrics: dict[str, Array]


class State(NamedTuple):
    """N environments under way, and the initial states they will restart from."""

    state: PyTree  # [N, ...] of the environments
    fresh: PyTree  # [N, K, ...] (state, obs) that each environment restarts from, in turn; () without restarts
    steps: Array  # [N] int32, of the episode under way
    left: Array  # [] int32, steps until each of K had its turn
    key: Key


def restarting(
    reset: Callable[[Key], tuple[PyTree, PyTree]],
    step: Callable[[PyTree, PyTree], tuple[PyTree, Single]],
    num_envs: int,
    action: Space,
    time_limit: int,
    restarts: bool | str = True,
    period: int = PERIOD,
    is_small: bool = False,
) -> tuple[Callable, Callable]:
    """N environments with a time limit that go on with a new episode in the step that ends one.

    A real reset costs about as much as a step, so not every environment can have one in every step: each has an
    initial state in store, and another one every `period` steps, or every `time_limit` if that is less. An episode that
    lasts as long therefore never begins like the one before it, and no two environments begin alike; a shorter one may,
    and then draws what its state says that it draws, as the one before it did.

    A reset is also half of what there is to compile. So a step can leave it to who steps: each environment then has
    several initial states in store, takes the next one every `period` steps, and goes through them again if all have
    had their turn and nobody has called `renewal`.

    Args:
        reset: key -> (state, obs) of one environment.
        step: (state, action) -> (state, Single) of one environment.
        num_envs: N.
        action: space of one environment's action.
        time_limit: steps after which an episode is truncated.
        restarts: True renews the stores within the step; TOLD leaves that to `renewal`; False plays one episode in each
            environment and has no store, and what follows its end means nothing.
        period: steps; a reset that costs as much as c steps adds c / period to the cost of each.
        is_small: the step is made of small arrays, so that a CPU does best to map it by `lanes.vmap`.

    Returns:
        reset: key -> (State, Timestep), and step: (State, action [N, ...]) -> (State, Timestep); `inspect.unwrap` of
        them gives those of one environment.
    """
    period = min(period, time_limit)
    reset, step = jax.jit(reset), jax.jit(step)  # traced once, and then mapped wherever they are called

    def draw(keys):
        def rows(keys):  # one map over all, however they stand
            drawn = jax.vmap(fused(reset))(keys.reshape(-1))
            return jax.tree.map(lambda x: x.reshape(*keys.shape, *x.shape[1:]), drawn)

        return strong(shares.locally(rows, (0,), 0)(keys))

    fill, turn = _stores(draw, num_envs, period, restarts)

    def begin(key):
        key, begin_key = jax.random.split(key)
        (state, obs), fresh, left = fill(begin_key)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (state, spaces.example(action, 1)))
        _, single = jax.eval_shape(step, *one)
        metrics, reward = jax.tree.map(
            lambda x: jnp.zeros((num_envs, *x.shape), x.dtype), (single.metrics, single.reward)
        )
        nothing = jnp.zeros(num_envs, bool)
        timestep = Timestep(obs, reward, nothing, nothing, obs, metrics, ~nothing)
        return State(state, fresh, jnp.zeros(num_envs, jnp.int32), left, key), timestep

    def go_on(env_state, action):
        state, single = together(step, is_small)(env_state.state, action)
        steps = env_state.steps + 1
        terminated = single.terminated
        truncated = (steps >= time_limit) & ~terminated
        done = terminated | truncated
        obs, fresh, left, key = single.obs, env_state.fresh, env_state.left, env_state.key
        if restarts:
            first, (fresh, left, key) = turn(fresh, left, key)
            state, obs = select(done, first, (state, obs))
        valid = jnp.ones_like(done)
        timestep = Timestep(obs, single.reward, terminated, truncated, single.obs, single.metrics, valid)
        return strong(State(state, fresh, jnp.where(done, 0, steps), left, key)), strong(timestep)

    begin.__wrapped__, go_on.__wrapped__ = reset, step  # as inspect.unwrap finds them
    return begin, go_on


def _stores(draw, num_envs, period, restarts) -> tuple[Callable, Callable]:
    """What environments begin with and restart from.

    Returns:
        fill: key -> (what they begin with, `fresh`, `left`), and turn: (`fresh`, `left`, `key`) -> (what to restart
        from after a step, the three after it); names and shapes are those of `State`.
    """
    kept = max(STORED // max(num_envs, period), 1) if restarts == TOLD else 1
    count = kept if restarts else 0  # K

    def fill(key):  # one call for all: a reset is much to compile
        drawn = draw(jax.random.split(key, (num_envs, 1 + count)))
        first, fresh = (jax.tree.map(lambda x, i=i: x[:, i], drawn) for i in (0, slice(1, None)))
        return first, fresh if count else (), jnp.int32(count * period)

    def renew(fresh, key):  # raw keys: typed ones do not go through sometimes()
        return draw(jax.random.split(jax.random.wrap_key_data(key), (num_envs, 1)))

    def renewed(fresh, left, key):
        key, renew_key = jax.random.split(key)
        fresh = sometimes(left == 0, renew, fresh, jax.random.key_data(renew_key))
        return fresh, jnp.where(left == 0, period, left), key

    def turn(fresh, left, key):
        number = (count * period - left) // period % count
        after = (fresh, left - 1, key) if restarts == TOLD else renewed(fresh, left - 1, key)
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, number, 1, False), after[0]), after

    return fill, turn


def renewal(env: Environment) -> Callable | None:
    """env_state -> env_state, the same with other initial states in stores of TOLD that have all had their turn.

    It finds them wherever other environments that look at this one keep its state. None if there are no stores.

    Args:
        env: on device.
    """
    is_stored = lambda x: isinstance(x, State) and x.fresh != ()  # noqa: E731

    def stores(env_state):  # raw keys: typed ones do not go through sometimes()
        found = [x for x in jax.tree.leaves(env_state, is_leaf=is_stored) if is_stored(x)]
        return [(x.fresh, x.left, jax.random.key_data(x.key)) for x in found]

    def draw(old):
        key = jax.random.wrap_key_data(old[0][-1])
        return stores(env.reset(key)[0])

    def put(x, new):
        fresh, left, key = next(new)
        return x._replace(fresh=fresh, left=left, key=jax.random.wrap_key_data(key))

    def renew(env_state):
        old = stores(env_state)
        new = iter(sometimes(old[0][1] <= 0, draw, old))
        return jax.tree.map(lambda x: put(x, new) if is_stored(x) else x, env_state, is_leaf=is_stored)

    has_any = jax.eval_shape(lambda key: stores(env.reset(key)[0]), jax.random.key(0))
    return renew if has_any else None


def lean(reset: Callable, step: Callable, action: Space, shown: Callable) -> tuple[Callable, Callable]:
    """The same environment, with None in the state for every array that no step reads and nobody is shown.

    What physics engines call their state is for the greater part what they have computed on the way: of the 117 arrays
    of Brax's ant on MJX a step reads 10. Each other one would be carried through all loops, stored for the restarts,
    and chosen from at each of them.

    Args:
        reset, step, action: of `restarting`; the shapes of a state stay as they are.
        shown: state -> what else of it is to be kept.
    """
    reset, step = jax.jit(reset), jax.jit(step)  # traced once
    whole, _ = jax.eval_shape(reset, jax.random.key(0))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), spaces.example(action, 1))
    leaves, treedef = jax.tree.flatten(whole)
    seen = {id(leaf) for leaf in jax.tree.leaves(shown(whole))}
    kept = [read or id(leaf) in seen for leaf, read in zip(leaves, jaxprs.carried(step, whole, one), strict=True)]

    def less(state):
        return treedef.unflatten(
            [x if keep else None for x, keep in zip(treedef.flatten_up_to(state), kept, strict=True)]
        )

    def more(state):
        found = treedef.flatten_up_to(state)
        zero = lambda x: jnp.zeros(x.shape, x.dtype)  # noqa: E731
        return treedef.unflatten([x if keep else zero(like) for x, keep, like in zip(found, kept, leaves, strict=True)])

    def lean_reset(key):
        state, obs = reset(key)
        return less(state), obs

    def lean_step(state, action):
        state, single = step(more(state), action)
        return less(state), single

    return lean_reset, lean_step


def together(step: Callable, is_small: bool = False) -> Callable:
    """`jax.vmap(step)`, by each device for its own; on a CPU in pieces, whose states stay in a core's cache.

    Args:
        step: (state, action) -> (state, Single) of one environment.
        is_small: of `restarting`.
    """
    is_cpu = jax.default_backend() == "cpu"
    all_at_once = lanes.vmap(step) if is_cpu and is_small else jax.vmap(fused(step))

    def in_pieces(state, action):
        number = jax.tree.leaves(action)[0].shape[0]
        size = piece(sum(leaf.nbytes for leaf in jax.tree.leaves(state)), number)
        if size == number:
            return all_at_once(state, action)

        def one_piece(at, whole):  # the states are written over where they stand
            state, _ = whole
            cut = lambda x: jax.lax.dynamic_slice_in_dim(x, at * size, size)  # noqa: E731
            put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, at * size, 0)  # noqa: E731
            return jax.tree.map(put, whole, all_at_once(*jax.tree.map(cut, (state, action))))

        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (state, action))
        _, single = jax.eval_shape(step, *one)
        nothing = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), single)
        return jax.lax.fori_loop(0, number // size, one_piece, (state, nothing))

    # Physics may be calls that the compiler cannot share out by itself.
    return shares.locally(in_pieces if is_cpu else all_at_once, (0, 0), 0)


def fused(function: Callable) -> Callable:
    """The same function with less to compile, and in fewer kernels on an accelerator; a CPU has nothing of those."""
    return hoist.hoisted(function, is_whole=jax.default_backend() != "cpu")


def piece(total_bytes: int, num_envs: int) -> int:
    """How many environments a CPU steps at once: the largest equal share whose states fit the cache, if of LEAST."""
    for pieces in range(1, num_envs // LEAST + 1):
        if num_envs % pieces == 0 and total_bytes <= pieces * CACHED:
            return num_envs // pieces
    return LEAST if num_envs % LEAST == 0 else num_envs


def sometimes(when: Array, change: Callable, tree: PyTree, *rest: PyTree) -> PyTree:
    """`change(tree, *rest)` where `when` holds, else `tree`, and what is not wanted is not computed, also under vmap.

    A plain `jax.lax.cond` computes both sides once it is mapped. Here the copies are asked together: nothing is
    computed unless one of them wants it, as seeds that go in step all do at the same time. It also copies its operands,
    on a GPU with two kernels for each leaf; a loop that turns once or not at all leaves the tree where it is.

    Args:
        when: [] bool.
        change: pure, with no arrays of a mapped axis in its closure; keeps shapes and types.
        tree, rest: pytrees of arrays, not of typed keys.
    """

    @jax.custom_batching.custom_vmap
    def choose(when, tree, *rest):
        turn = lambda wanted, tree: (jnp.zeros_like(wanted), change(tree, *rest))  # noqa: E731
        return jax.lax.while_loop(lambda state: state[0], lambda state: turn(*state), (when, tree))[1]

    @choose.def_vmap
    def mapped(size, in_batched, when, tree, *rest):
        def everywhere(is_mapped, x):
            return x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))

        when, tree, *rest = jax.tree.map(everywhere, list(in_batched), [when, tree, *rest])
        one = lambda tree, when, *rest: jax.tree.map(lambda a, b: jnp.where(when, a, b), change(tree, *rest), tree)  # noqa: E731
        new = sometimes(when.any(), jax.vmap(one), tree, when, *rest)
        return new, jax.tree.map(lambda x: True, new)

    return choose(when, tree, *rest)


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


def begin(env: Environment, key: Key, saved: PyTree = ()) -> tuple[PyTree, Timestep]:
    """`env.reset(key)`, also of a run that is resumed.

    An environment on the host keeps its state to itself and begins new episodes then. If it has something that is to
    go on, such as a curriculum, that is its env_state, and its reset takes what a checkpoint has of it: (key, saved).

    Args:
        env: any; of those whose reset takes no `saved`, all begins anew.
        key: of the reset.
        saved: an env_state; () if there is none.
    """
    takes = "saved" in inspect.signature(env.reset).parameters
    return env.reset(key, saved) if takes and jax.tree.leaves(saved) else env.reset(key)
