"""Jumanji's puzzles, packings, routes and games; https://github.com/instadeepai/jumanji.

Needs the extra [jumanji]. An observation is a dict of Jumanji's own parts, one in another as 'outer.inner': numbers are
float32, and what is either so or not so is bool, which no normaliser touches. Whole numbers that only name one of n
things, such as the tiles of 2048, are shown as n bools in a last axis more.

Where Jumanji says which actions are allowed, that is `action_mask`. Several decisions at once are a MultiDiscrete if
each has a mask of its own; if one mask is over all their combinations, the action is one Discrete of the combinations,
in row-major order. What allows nothing, as at the end of a game, is shown as allowing all: what is chosen there means
nothing. Rewards of a team are added up, for one policy moves all, as by Jumanji's own MultiToSingleWrapper.

Jumanji counts its time limit as the end of the task. Here its clock is put off, ours truncates, and what Jumanji still
ends has terminated. Environments without a limit of their own end by themselves: theirs here is out of reach.
"""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import wrappers
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Discrete, Environment, MultiDiscrete, Spec

LIMITS = {"episode_length": (0, 10_000_000)}
NEVER = LIMITS["episode_length"][1] + 1  # steps

# By class, the observations whose numbers are names. Where Jumanji does not say how many there are, it is here.
NAMES = {
    "CVRP": {"position": None, "trajectory": None},
    "Cleaner": {"grid": None},
    "Connector": {"grid": None},
    "FlatPack": {"grid": None, "blocks": None},
    "Game2048": {"board": (0, 17)},  # 4 x 4 tiles reach 2 ** 17 at best
    "GraphColoring": {"colors": None, "current_node_index": None},
    "JobShop": {"ops_machine_ids": None, "machines_job_ids": None},
    "MMST": {"node_types": None, "positions": None},
    "Minesweeper": {"board": None},
    "RubiksCube": {"cube": None},
    "SlidingTilePuzzle": {"puzzle": None},
    "Sudoku": {"board": None},
    "TSP": {"position": None, "trajectory": None},
}


# Of the grid of Snake, in the order of its last axis; the last says how soon the cell comes free.
CHANNELS = {"Snake-v1": ("body", "head", "tail", "fruit", "")}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "jumanji"
    config.name = "Snake-v1"
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as Jumanji has it
    return config


def names() -> list[str]:
    """The environments that Jumanji offers, also those that were registered with it."""
    return sorted(_library().registered_environments())


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of Jumanji.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: Jumanji is missing, has no such environment, cannot make it, or its actions do not fit.
    """
    env, time_limit = _load(config.name, config.episode_length)
    parts, mask = _observation(env)
    space, act = _action(config.name, env.action_spec, mask)

    def see(theirs):
        shown = {name: show(leaf) for (name, leaf), show in zip(_leaves(theirs), parts, strict=True)}
        return shown if mask is None else shown | {"action_mask": _allow(shown["action_mask"], space)}

    def reset(key):
        with quiet():
            state, timestep = env.reset(jax.random.key_data(key))  # typed keys could not be shared out over devices
        return state, see(timestep.observation)

    def step(state, action):
        with quiet():
            state, timestep = env.step(state, act(action))
        metrics = {name: jnp.asarray(x, jnp.float32) for name, x in timestep.extras.items() if not jnp.ndim(x)}
        reward = jnp.sum(jnp.asarray(timestep.reward, jnp.float32))
        return state, wrappers.Single(see(timestep.observation), reward, timestep.last(), metrics)

    reset_all, step_all = wrappers.restarting(reset, step, num_envs, space, time_limit, restarts)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return Environment(reset_all, step_all, Spec(num_envs, obs, space, time_limit, all_valid=True))


def channels(config: ConfigDict) -> tuple[str, ...]:
    """The names of what stands in the cells of a grid."""
    return CHANNELS.get(config.name, ())


def _library():
    try:
        with quiet():
            import jumanji
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='jumanji' cannot be imported ({error}); pip install 'jaxrl[jumanji]'."
        ) from error
    return jumanji


def _load(name, episode_length):
    """Jumanji's environment of that name, with its clock put off, and the time limit in steps."""
    library = _library()
    if name not in library.registered_environments():
        raise ConfigError(f"config.env.name={name!r} is not in Jumanji; {nearest(name, names())}")
    try:
        env = library.make(name)
        own_limit = getattr(env, "time_limit", None)
        if own_limit is None:
            return env, episode_length or LIMITS["episode_length"][1]
        time_limit = episode_length or int(own_limit)
        env = library.make(name, time_limit=time_limit, **_pay_by_our_clock(env, time_limit))
    except OSError as error:  # it could not download its data
        cause = " ".join(str(error).split())
        raise ConfigError(f"config.env.name={name!r} cannot be made ({cause}); choose another.") from error
    env.time_limit = NEVER
    return env, time_limit


def _pay_by_our_clock(env, time_limit):
    """The reward of SearchAndRescue, which alone depends on its time limit: of ours, not of the one that is put off."""
    pay = getattr(env, "_reward_fn", None)
    if pay is None or list(inspect.signature(pay).parameters) != ["found_targets", "step", "time_limit"]:
        return {}
    return {"reward_fn": lambda found, step, never: pay(found, step, time_limit)}


def _observation(env):
    """The functions from the parts of Jumanji's observation to ours, in order, and the shape of its mask or None."""
    _, timestep = jax.eval_shape(env.reset, jax.random.key_data(jax.random.key(0)))
    labels, leaves = NAMES.get(type(env).__name__, {}), _leaves(timestep.observation)
    shapes = {name: leaf.shape for name, leaf in leaves}

    def part(name, leaf):
        if name in labels:
            spec = getattr(env.observation_spec, name)
            low, high = labels[name] or (int(np.min(spec.minimum)), int(np.max(spec.maximum)))
            return lambda x: x[..., None] == jnp.arange(low, high + 1)
        return (lambda x: x) if leaf.dtype == bool else (lambda x: jnp.asarray(x, jnp.float32))

    return [part(name, leaf) for name, leaf in leaves], shapes.get("action_mask")


def _leaves(theirs):
    """[(name, array)] of an observation."""
    leaves = jax.tree_util.tree_leaves_with_path(theirs)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _action(name, theirs, mask):
    """The policy's action space, and the function from it to Jumanji's."""
    if not np.issubdtype(theirs.dtype, np.integer):
        low, high = (
            np.broadcast_to(bound, theirs.shape).astype(np.float32) for bound in (theirs.minimum, theirs.maximum)
        )
        return Box(tuple(theirs.shape)), lambda x: low + 0.5 * (jnp.clip(x, -1.0, 1.0) + 1.0) * (high - low)
    if not theirs.shape:
        return Discrete(int(theirs.maximum) + 1), lambda option: option
    sizes = tuple(int(size) + 1 for size in np.broadcast_to(theirs.maximum, theirs.shape))
    if mask is None:
        return MultiDiscrete(sizes), lambda options: options.astype(theirs.dtype)
    if mask == sizes:
        index = lambda option: jnp.stack(jnp.unravel_index(option, sizes)).astype(theirs.dtype)  # noqa: E731
        return Discrete(math.prod(sizes)), index
    if len(mask) == 2 and mask[0] == len(sizes):  # MultiCVRP bounds its actions one above what its mask tells of
        return MultiDiscrete((mask[1],) * mask[0]), lambda options: options.astype(theirs.dtype)
    raise ConfigError(
        f"config.env.name={name!r} cannot be: its action_mask {mask} is neither one of each of its decisions {sizes} "
        "nor one of their combinations; choose another."
    )


def _allow(mask, space):
    """A mask of any shape as [M], with all options of a decision allowed where none is."""
    rows = mask.reshape(-1, space.size if isinstance(space, Discrete) else space.sizes[0])
    return (rows | ~rows.any(axis=1, keepdims=True)).reshape(-1)
