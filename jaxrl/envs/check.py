"""Checks that an environment keeps the contract of jaxrl/types.py, and says what it costs.

Letters in shapes: T steps, N environments.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import spaces, trajectory
from jaxrl.functional.distributions import option_sizes
from jaxrl.types import Environment, PyTree, Timestep

CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "outside_call")


class Fault(NamedTuple):
    """Where an environment breaks the contract."""

    field: str
    seen: str
    expected: str

    def __str__(self):
        return f"{self.field}: {self.seen}; expected {self.expected}"


class Report(NamedTuple):
    """What a check found."""

    faults: tuple[Fault, ...]
    num_steps: int  # T that were played
    num_envs: int
    episodes: int  # that ended
    compile_seconds: float | None  # of reset and T steps; None on the host
    step_seconds: float  # for one step of all environments, on device with the random actions

    def __str__(self):
        compiled = f"compiled in {self.compile_seconds:.1f} s, " if self.compile_seconds is not None else ""
        if not self.num_steps:  # it could not be played
            return "\n".join(f"fault: {fault}" for fault in self.faults)
        head = (
            f"{self.num_envs} environments x {self.num_steps} random steps, {self.episodes} episodes ended; {compiled}"
            f"{1e6 * self.step_seconds:.0f} µs a step, {self.num_envs / self.step_seconds:,.0f} env steps/s"
        )
        return "\n".join([head, *(f"fault: {fault}" for fault in self.faults)])


class ContractError(AssertionError):
    """An environment breaks the contract; the message has all faults, one a line."""


def check(env: Environment, num_steps: int = 1000, seed: int = 0) -> Report:
    """Plays random actions and compares what is seen with what was promised.

    Args:
        env: N environments; 8 are plenty.
        num_steps: T.
        seed: of the keys.

    Returns:
        The report; without faults, `.faults` is empty.
    """
    with jax.debug_key_reuse(False):  # much is done twice with one key, to see that it comes out the same
        return _check(env, num_steps, jax.random.key(seed))


def _check(env: Environment, num_steps: int, key) -> Report:
    if env.spec.traceable and (faults := tuple(_carries(env, key))):
        return Report(faults, 0, env.spec.num_envs, 0, None, 0.0)
    first, steps, compile_seconds, seconds = _play(env, num_steps, key)
    faults = [*_forms(env, first, ()), *_forms(env, steps, (num_steps,))]
    if not faults:  # what follows compares numbers
        faults += [*_ends(env, first, steps), *_numbers(first, steps), *_masks(env, first, steps)]
        faults += _repeats(env, key, first)
    if not faults and env.spec.traceable:
        faults += [*_pure(env, key), *_rows(env, key), *_callbacks(env, key)]
    episodes = int(np.sum(np.logical_or(steps.terminated, steps.truncated)))
    return Report(tuple(faults), num_steps, env.spec.num_envs, episodes, compile_seconds, seconds / num_steps)


def _play(env: Environment, num_steps: int, key):
    """The first timestep and those of T random steps, [T, N, ...], the seconds to compile them and to play them."""
    reset_key, act_key = jax.random.split(key)
    keys, policy = jax.random.split(act_key, num_steps), trajectory.random_policy(env)
    if env.spec.traceable:
        play, began = trajectory.player(env, policy), time.perf_counter()
        play = jax.jit(play).lower(reset_key, keys).compile()
        compile_seconds, began = time.perf_counter() - began, time.perf_counter()
        first, (_, steps) = jax.block_until_ready(play(reset_key, keys))
        seconds = time.perf_counter() - began
    else:
        step, took = _timed(env.step)
        first, (_, steps) = trajectory.player(env._replace(step=step), policy)(reset_key, keys)
        compile_seconds, seconds = None, sum(took)
    return (*jax.tree.map(np.asarray, (first, steps)), compile_seconds, seconds)


def _timed(step):
    """A step of an environment on the host, and the list to which it adds the seconds that each takes."""
    took = []

    def timed(state, action):
        jax.block_until_ready(action)
        began = time.perf_counter()
        after = step(state, action)
        took.append(time.perf_counter() - began)
        return after

    return timed, took


def _carries(env: Environment, key):
    """Whether a step gives back the state that it takes: the same names, shapes and types."""
    state, _ = jax.eval_shape(env.reset, key)
    action = jax.eval_shape(lambda key: spaces.sample(env.spec.action, key, env.spec.num_envs), key)
    after, _ = jax.eval_shape(env.step, state, action)
    if jax.tree.structure(state) != jax.tree.structure(after):
        yield Fault(
            "env_state", f"is {jax.tree.structure(after)} after a step", f"{jax.tree.structure(state)} as before"
        )
        return
    pairs = zip(jax.tree_util.tree_flatten_with_path(state)[0], jax.tree.leaves(after), strict=True)
    for (path, one), two in pairs:
        if (one.shape, one.dtype) != (two.shape, two.dtype):
            where = "env_state" + jax.tree_util.keystr(path)
            yield Fault(
                where, f"{_form(two.dtype, two.shape)} after a step", f"{_form(one.dtype, one.shape)} as before"
            )


def _forms(env: Environment, timestep: Timestep, leading: tuple[int, ...]):
    """Shapes and types against the spec."""
    spec, leading = env.spec, (*leading, env.spec.num_envs)
    heads = () if spec.num_value_heads == 1 else (spec.num_value_heads,)
    flags = {name: jax.ShapeDtypeStruct((), bool) for name in ("terminated", "truncated", "valid")}
    promised = {"obs": spec.obs, "final_obs": spec.obs, "reward": jax.ShapeDtypeStruct(heads, jnp.float32), **flags}
    for name, expected in promised.items():
        seen = getattr(timestep, name)
        if jax.tree.structure(seen) != jax.tree.structure(expected):
            yield Fault(name, f"is {jax.tree.structure(seen)}", f"{jax.tree.structure(expected)}, as spec.obs has it")
            continue
        for path, here in jax.tree_util.tree_flatten_with_path(seen)[0]:
            there = _at(expected, path)
            if (here.shape, here.dtype) != ((*leading, *there.shape), there.dtype):
                where = name + jax.tree_util.keystr(path)
                yield Fault(where, _form(here.dtype, here.shape), _form(there.dtype, (*leading, *there.shape)))
    for name, metric in timestep.metrics.items():
        if metric.shape != leading:
            yield Fault(f"metrics[{name!r}]", _form(metric.dtype, metric.shape), f"one number each, {list(leading)}")


def _ends(env: Environment, first: Timestep, steps: Timestep):
    """Whether episodes end as the flags say."""
    for name in ("terminated", "truncated"):
        if np.any(getattr(first, name)):
            yield Fault(name, "is True after a reset", "False: nothing has happened yet")
    done = steps.terminated | steps.truncated
    if np.any(both := steps.terminated & steps.truncated):
        yield Fault("truncated", f"is True with terminated {_first(both)}", "one of the two: a task that is over is")
    # Of several agents it may be another's action that ends the episode.
    if env.spec.num_agents == 1 and np.any(void := done & ~steps.valid):
        yield Fault("valid", f"is False where an episode ends {_first(void)}", "True: only an action ends an episode")
    if env.spec.all_valid and np.any(void := ~steps.valid):
        yield Fault("spec.all_valid", f"is True and valid is False {_first(void)}", "False, or the row is learned from")
    interval = env.spec.truncation_interval
    for column in steps.truncated.T:
        gaps = np.diff(np.flatnonzero(column))
        if gaps.size and gaps.min() < interval:
            apart = f"is {interval} and two truncations are {gaps.min()} steps apart"
            yield Fault("spec.truncation_interval", apart, "no more than that")
            break
    same = _same(steps.obs, steps.final_obs)
    if np.any(wrong := ~done & ~same & steps.valid):
        yield Fault("final_obs", f"is not obs {_first(wrong)}, where no episode ended", "the observation of this step")
    begun = done[:-1] & steps.valid[1:]  # where not, the next step is the restart
    if begun.any() and np.all(same[done]):
        yield Fault("final_obs", f"is obs at all {done.sum()} ends of episodes", "the last observation of the old one")


def _numbers(first: Timestep, steps: Timestep):
    """Finite numbers everywhere."""
    for name in ("obs", "final_obs", "reward", "metrics"):
        for timestep in (first, steps):
            for path, leaf in jax.tree_util.tree_flatten_with_path(getattr(timestep, name))[0]:
                if np.issubdtype(leaf.dtype, np.floating) and not np.all(np.isfinite(leaf)):
                    where = name + jax.tree_util.keystr(path)
                    yield Fault(where, f"is not finite {_first(~np.isfinite(leaf))}", "finite numbers")
                    return


def _masks(env: Environment, first: Timestep, steps: Timestep):
    """Masks that allow something in each discrete part, of every observation that is acted upon."""
    if not (isinstance(steps.obs, dict) and "action_mask" in steps.obs):
        return
    mask = np.concatenate([first.obs["action_mask"][None], steps.obs["action_mask"]])
    sizes = option_sizes(env.spec.action)
    if mask.dtype != bool or mask.shape[-1] != sum(sizes):
        yield Fault("obs['action_mask']", _form(mask.dtype, mask.shape), f"bool [..., {sum(sizes)}], all options")
        return
    for number, part in enumerate(np.split(mask, np.cumsum(sizes)[:-1], axis=-1)):
        if np.any(blocked := ~part.any(axis=-1)):
            seen = f"allows nothing in part {number} {_first(blocked)}"
            yield Fault("obs['action_mask']", seen, "one option or more")


def _repeats(env: Environment, key, first: Timestep):
    """Whether the same key resets alike and another does not."""
    reset_key, _ = jax.random.split(key)
    reset = jax.jit(env.reset) if env.spec.traceable else env.reset
    again, other = (jax.tree.map(np.asarray, reset(k)[1]) for k in (reset_key, jax.random.fold_in(key, 1)))
    if not np.all(_same(_lift(first.obs), _lift(again.obs))):
        yield Fault("reset", "gives other observations for the same key", "the same: all that is random is the key's")
    if env.spec.num_envs > 1 and np.all(_same(_lift(first.obs), _lift(other.obs))):
        rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(first.obs)]
        if not all(np.all(leaf == leaf[:1]) for leaf in rows):
            yield Fault("reset", "gives the same observations for two keys", "others: the key is not used")


def _one(env: Environment, key):
    """A state under way, an action, and the compiled step."""
    state, timestep = jax.jit(env.reset)(key)
    mask = timestep.obs.get("action_mask") if isinstance(timestep.obs, dict) else None
    return state, spaces.sample(env.spec.action, jax.random.fold_in(key, 2), env.spec.num_envs, mask), jax.jit(env.step)


def _pure(env: Environment, key):
    """Whether the same state and action give the same step twice."""
    state, action, step = _one(env, jax.random.fold_in(key, 3))
    one, two = (jax.tree.map(np.asarray, step(state, action)[1]) for _ in range(2))
    if not np.all(_same(_lift(one.final_obs), _lift(two.final_obs))) or not np.array_equal(one.reward, two.reward):
        yield Fault("step", "gives two results for one state and action", "a pure function: keep keys in the state")


def _rows(env: Environment, key):
    """Whether what one environment does leaves the others alone, as in a loop over them."""
    if env.spec.num_envs < 2 or env.spec.num_agents > 1:
        return
    state, action, step = _one(env, jax.random.fold_in(key, 4))
    other = spaces.sample(env.spec.action, jax.random.fold_in(key, 5), env.spec.num_envs)
    mixed = jax.tree.map(lambda a, b: a.at[1:].set(b[1:]), action, other)
    one, two = (jax.tree.map(lambda x: np.asarray(x)[:1], step(state, each)[1]) for each in (action, mixed))
    if not np.all(_same(_lift(one.final_obs), _lift(two.final_obs))) or not np.array_equal(one.reward, two.reward):
        yield Fault("step", "of environment 0 depends on the actions of the others", "N environments apart, as by vmap")


def _callbacks(env: Environment, key):
    """Whether a step calls back to the host, which would stall every epoch."""
    state, action, _ = _one(env, jax.random.fold_in(key, 6))
    text = str(jax.make_jaxpr(env.step)(state, action))
    for name in CALLBACKS:
        if name in text:
            yield Fault("step", f"calls back to the host ({name})", "a step that stays on the device")


def _at(tree: PyTree, path) -> jax.ShapeDtypeStruct:
    return dict(jax.tree_util.tree_flatten_with_path(tree)[0])[path]


def _form(dtype, shape) -> str:
    """'float32[8, 3]'."""
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _first(where: np.ndarray) -> str:
    """'at step 3 of environment 1'."""
    at = np.argwhere(where)[0]
    return f"at step {at[0]} of environment {at[1]}" if len(at) > 1 else f"of environment {at[0]}"


def _lift(obs: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[None], obs)


def _same(one: PyTree, other: PyTree) -> np.ndarray:
    """[T, N]: where two pytrees of [T, N, ...] are equal; NaN is NaN, which is a fault of its own."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    same = [(a == b) | ((a != a) & (b != b)) for a, b in pairs]
    return np.all([each.reshape(*each.shape[:2], -1).all(axis=-1) for each in same], axis=0)
