"""MuJoCo Playground's environments: the DM Control Suite, legged robots, hands and arms, simulated by MJX.

Needs the extra [playground]; https://github.com/google-deepmind/mujoco_playground. None of its wrappers is used: they
restart from states that never change and lose the last observation of an episode (its issues 169 and 305). Of an
observation in parts, `state` is what the policy sees and `privileged_state` what the critic sees; others keep their
names. Policies act in [-1, 1]: what a Gaussian samples beyond is clipped here.
"""

import contextlib
import math
import subprocess

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import Control, Scene, mjx, randomization, wrappers
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Environment, Spec

LIMITS = {"episode_length": (0, 10_000_000), "action_repeat": (0, 1000)}
CHOICES = {"impl": ("jax", "warp")}
OURS = {"state": "policy", "privileged_state": "critic"}  # names of parts of observations


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "playground"
    config.name = "CartpoleBalance"
    config.impl = "jax"  # of MJX: jax runs everywhere; warp is made for NVIDIA and needs warp-lang
    config.episode_length = 0  # control steps after which an episode is truncated; 0 = as Playground has it
    config.action_repeat = 0  # control steps for which an action is held; 0 = as Playground has it
    config.randomization = ""  # physics of each episode: playground = its own for this robot, or your 'module:function'
    return config


def names() -> list[str]:
    """The environments that Playground offers, also those that were registered with it."""
    return sorted(_registered(_library()))


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of Playground.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: Playground is missing, has no such environment, cannot download its robot, or cannot run it on
            that implementation.
    """
    env, episode_length, action_repeat = _load(config)
    # TF32 harms the physics; https://github.com/google-deepmind/mujoco_playground/issues/86.
    precise = jax.default_matmul_precision("highest")

    draw = _randomizer(config)
    physics = randomization.make(draw, env.mjx_model if draw else None)

    def reset(key):
        keys = jax.random.key_data(jax.random.split(key))  # some of Playground's own code splits raw keys
        numbers = physics.draw(keys[1])
        with precise, quiet(), _having(env, physics.model(numbers)):
            state = env.reset(keys[0])
        return (numbers, state), _see(state.obs)

    def step(state, action):
        # A copy: its environments write into the dictionaries of their state.
        numbers, state = jax.tree.map(lambda x: x, state)
        with precise, quiet(), _having(env, physics.model(numbers)):
            state = env.step(state, jnp.clip(action, -1.0, 1.0))
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in state.metrics.items()}
        reward = jnp.asarray(state.reward, jnp.float32)
        return (numbers, state), wrappers.Single(_see(state.obs), reward, state.done > 0, metrics)

    action = Box((env.action_size,))
    time_limit = math.ceil(episode_length / action_repeat)
    step = wrappers.repeat_action(step, action_repeat)
    reset_all, step_all = wrappers.restarting(reset, step, num_envs, action, time_limit, restarts)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return Environment(reset_all, step_all, Spec(num_envs, obs, action, time_limit, all_valid=True))


def scene(config: ConfigDict) -> Scene:
    """How it is drawn, as it is without randomized physics."""
    env, _, action_repeat = _load(config)

    def qpos(env_state):
        is_state = lambda x: hasattr(x, "data") and hasattr(x.data, "qpos")  # noqa: E731
        [state] = filter(is_state, jax.tree.leaves(env_state, is_leaf=is_state))
        return state.data.qpos

    return Scene(env.mj_model, qpos, float(env.dt) * action_repeat)


def control(config: ConfigDict) -> Control:
    """The time that an action lasts; Playground's own actions are in [-1, 1] too."""
    env, _, action_repeat = _load(config)
    return Control(float(env.dt) * action_repeat)


def _randomizer(config):
    """The function that draws physics, or None."""
    if config.randomization != "playground":
        return randomization.users(config.randomization)
    function = _library().get_domain_randomizer(config.name)
    if function is None:
        raise ConfigError(
            f"config.env.randomization='playground' has none for {config.name}; leave it out, or name your own."
        )
    return function


@contextlib.contextmanager
def _having(env, model):
    """The environment with other physics for a while, as Playground's own wrapper gives it them; None: with its own."""
    if model is None:
        yield
        return
    before, env.unwrapped._mjx_model = env.unwrapped._mjx_model, model
    try:
        yield
    finally:
        env.unwrapped._mjx_model = before


def _library(impl="jax"):
    try:
        with quiet():
            mjx.load(warp=impl == "warp")
            from mujoco_playground import registry
    except ImportError as error:
        raise ConfigError(
            f"config.env.suite='playground' cannot be imported ({error}); pip install 'jaxrl[playground]'."
        ) from error
    return registry


def _registered(registry):
    groups = (registry.dm_control_suite, registry.locomotion, registry.manipulation)
    return [name for group in groups for name in group.ALL_ENVS]


def _load(config):
    """Playground's environment, its episode's length and how often it repeats an action."""
    name, impl = config.name, config.impl
    registry = _library(impl)
    if name not in _registered(registry):
        raise ConfigError(f"config.env.name={name!r} is not in Playground; {nearest(name, names())}")
    if impl not in CHOICES["impl"]:
        raise ConfigError(f"config.env.impl={impl!r} does not exist; {nearest(impl, list(CHOICES['impl']))}")
    theirs = registry.get_default_config(name)
    episode_length = config.episode_length or theirs.episode_length
    action_repeat = config.action_repeat or theirs.action_repeat
    # A few environments end by a clock of their own, which must not strike before ours: that would be a termination.
    theirs.update(impl=impl, episode_length=episode_length + action_repeat, action_repeat=1)
    try:
        with quiet():
            env = registry.load(name, config=theirs)
    except (subprocess.CalledProcessError, OSError) as error:
        raise ConfigError(
            f"config.env.name={name!r} needs the robots of mujoco_menagerie, which could not be downloaded ({error}); "
            "clone https://github.com/google-deepmind/mujoco_menagerie to "
            f"{registry.mjx_env.MENAGERIE_PATH}, or choose an environment of the DM Control Suite."
        ) from error
    except (NotImplementedError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"config.env.impl={impl!r} cannot run {name} ({reason}); choose another.") from error
    return env, episode_length, action_repeat


def _see(obs):
    if not isinstance(obs, dict):
        return obs
    return {OURS.get(name, name): part for name, part in obs.items()}
