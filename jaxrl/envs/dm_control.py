"""The DM Control Suite's tasks, simulated by MuJoCo on the host; https://github.com/google-deepmind/dm_control.

Needs the extra [dm-control], and no screen. `config.env.name` is domain-task, as in cartpole-balance.
The parts of an observation stand side by side, in the suite's order, as one vector of float32. A bounded action lies in
[-1, 1] for the policy, what it samples beyond is clipped, and it is stretched to the task's bounds here; one without
bounds (the LQR's) goes through as it is.

The clock truncates; what a task itself ends with a discount of 0 has terminated, which only the LQR's do, at rest. An
episode begins anew in the step that ends one. The LQR's masses and springs, which are random, are the same in all
environments and for all seeds.

Letters in shapes: N environments, A action size, D numbers of an observation.
"""

import copy
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import Control, Scene
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Environment, Spec, Timestep

TRACEABLE = False  # reset and step, which live on the host
LIMITS = {"episode_length": (0, 10_000_000), "action_repeat": (1, 1000), "num_threads": (1, 4096)}
ENDLESS = 10_000_000  # steps of an episode that no clock ends
UNBOUNDED = 1e10  # what the suite gives for the bound of an action that has none


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "dm_control"
    config.name = "cartpole-balance"
    config.episode_length = 0  # control steps after which an episode is truncated; 0 = as the suite has it
    config.action_repeat = 1  # control steps for which an action is held
    config.num_threads = 1  # that simulate; more pay for heavy bodies, such as dog and humanoid
    return config


def names() -> list[str]:
    """The tasks of the suite."""
    return sorted(f"{domain}-{task}" for domain, task in _library().ALL_TASKS)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of one task.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: not used: all restart.

    Raises:
        ConfigError: dm_control is missing, has no such task or cannot make it.
    """
    del restarts
    return _build(config, num_envs)[0]


def scene(config: ConfigDict) -> Scene:
    """How it is drawn: the one environment that comes with it."""
    env, (task, *_) = _build(config, 1)
    physics = task.physics
    seconds = task.control_timestep() * config.action_repeat
    return Scene(physics.model.ptr, lambda env_state: np.array(physics.data.qpos)[None], seconds, env)


def _build(config, num_envs) -> tuple[Environment, list]:
    """N environments of one task, and the suite's own that they are made of."""
    first, own_limit = _load(config.name)
    envs = [first] + [copy.deepcopy(first) for _ in range(num_envs - 1)]  # a tenth of the time that loading takes
    limit, repeat = config.episode_length or own_limit, config.action_repeat
    space, act = _action(first.action_spec())
    obs = jax.ShapeDtypeStruct(_see(first.reset()).shape, np.float32)
    share = math.ceil(num_envs / config.num_threads)
    shares = [slice(i, i + share) for i in range(0, num_envs, share)]
    pool = ThreadPoolExecutor(len(shares)) if len(shares) > 1 else None
    age, everyone = np.zeros(num_envs, np.int64), np.ones(num_envs, bool)  # decisions of the episode under way

    def reset(key):
        seeds = np.asarray(jax.random.randint(key, (num_envs,), 0, 2**31 - 1))
        for env, seed in zip(envs, seeds, strict=True):
            env.task.random.seed(int(seed))
        age[:] = 0
        seen, no = np.stack([_see(env.reset()) for env in envs]), np.zeros(num_envs, bool)
        return (), Timestep(seen, np.zeros(num_envs, np.float32), no, no, seen, {}, everyone)

    def step(state, action):
        action = act(np.asarray(action))

        def some(rows):
            left = np.minimum(limit - repeat * age[rows], repeat)
            stops = left + repeat * age[rows] == limit
            return [_step(*each) for each in zip(envs[rows], action[rows], left, stops, strict=True)]

        rows = [row for part in (pool.map if pool else map)(some, shares) for row in part]
        seen, reward, terminated, truncated, final = map(np.array, zip(*rows, strict=True))
        age[:] = np.where(terminated | truncated, 0, age + 1)
        return state, Timestep(seen, reward.astype(np.float32), terminated, truncated, final, {}, everyone)

    spec = Spec(num_envs, obs, space, math.ceil(limit / repeat), traceable=TRACEABLE, all_valid=True)
    return Environment(reset, step, spec), envs


def control(config: ConfigDict) -> Control:
    """The time that an action lasts, and the task's limits."""
    env, _ = _load(config.name)
    seconds, theirs = float(env.control_timestep()) * config.action_repeat, env.action_spec()
    low, high = (np.broadcast_to(np.float32(bound), theirs.shape) for bound in (theirs.minimum, theirs.maximum))
    if not _bounded(theirs).any():
        return Control(seconds, clips=False)
    return Control(seconds, low, high)


def _step(env, action, num_steps, stops):
    """What one environment shows after an action, of its next episode if one ended: obs, reward, ends, final_obs.

    Args:
        env: the library's.
        action: [A], of the task.
        num_steps: control steps for which it is held.
        stops: the clock stops after them.
    """
    reward = 0.0
    for _ in range(num_steps):
        shown = env.step(action)
        reward += shown.reward
        if shown.last():
            break
    terminated = bool(shown.last() and shown.discount == 0)
    truncated = not terminated and bool(shown.last() or stops)
    final = _see(shown)
    return _see(env.reset()) if terminated or truncated else final, reward, terminated, truncated, final


def _see(shown):
    """[D] float32, all parts of an observation."""
    return np.concatenate([np.ravel(part) for part in shown.observation.values()]).astype(np.float32)


def _library():
    try:
        with quiet():  # it looks for a screen
            import mujoco
            from dm_control import suite
            from dm_control.mujoco.wrapper.mjbindings import sizes
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='dm_control' cannot be imported ({error}); pip install 'jaxrl[dm-control]'."
        ) from error
    # dm_control 1.0.50 wants to read arrays that MuJoCo 4 no longer has, of deformable bodies; no task has any.
    for name, theirs in (("mjmodel", mujoco.MjModel), ("mjdata", mujoco.MjData)):
        for array in [array for array in sizes.array_sizes[name] if not hasattr(theirs, array)]:
            del sizes.array_sizes[name][array]
    return suite


def _load(name):
    """A task without a clock, and the control steps after which the suite's own clock would stop it."""
    suite, setting = _library(), f"config.env.name={name!r}"
    domain, _, task = name.partition("-")
    if (domain, task) not in suite.ALL_TASKS:
        raise ConfigError(f"{setting} is not in the DM Control Suite; {nearest(name, names())}")
    with quiet():
        try:
            env, cause = suite.load(domain, task, task_kwargs={"random": 0, "time_limit": math.inf}), None
            env.reset()
        except Exception as mistake:  # of MuJoCo, or of what draws, which quadruped-escape needs
            cause = " ".join(str(mistake).split())
    if cause is not None:
        raise ConfigError(f"{setting} cannot be made ({cause}); choose another, such as cartpole-balance.")
    seconds = inspect.signature(getattr(suite, domain).SUITE[task]).parameters["time_limit"].default
    return env, ENDLESS if math.isinf(seconds) else math.ceil(seconds / env.control_timestep())


def _action(theirs) -> tuple[Box, Callable]:
    """The policy's action space, and the function from its actions [N, A] to the task's."""
    low, high = np.broadcast_to(theirs.minimum, theirs.shape), np.broadcast_to(theirs.maximum, theirs.shape)
    if not _bounded(theirs).any():
        return Box(theirs.shape), lambda action: action.astype(np.float64)
    return Box(theirs.shape), lambda action: low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (high - low)


def _bounded(theirs) -> np.ndarray:
    """[A] bool: which numbers have two limits."""
    low, high = np.broadcast_to(theirs.minimum, theirs.shape), np.broadcast_to(theirs.maximum, theirs.shape)
    return (low > -UNBOUNDED) & (high < UNBOUNDED)
