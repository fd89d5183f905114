"""Brax environments, on every physics backend of theirs; https://github.com/google/brax.

Policies act in [-1, 1]: what a Gaussian samples beyond is clipped here.
"""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import Control, Scene, mjx, randomization, wrappers
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Environment, Spec

LIMITS = {"episode_length": (1, 10_000_000), "action_repeat": (1, 1000)}
CHOICES = {"backend": ("spring", "generalized", "positional", "mjx")}
SMALL = ("spring", "positional")  # step each body by itself; the others solve for all joints of an environment at once


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "brax"  # a file of jaxrl/envs, or a dotted import path
    config.name = "ant"  # of the environment
    config.backend = "spring"  # physics: spring (fastest), generalized, positional, mjx
    config.episode_length = 1000  # physics steps after which an episode is truncated
    config.action_repeat = 1  # physics steps for which an action is held
    config.randomization = ""  # 'package.module:function', physics of each episode: (sys, keys [N]) -> (sys, axes)
    return config


def names() -> list[str]:
    """The environments that Brax offers."""
    return sorted(_library()._envs)


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of Brax.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: Brax has no such environment, or it does not run on that backend.
    """
    env = _load(config)
    # TF32 harms the physics; https://github.com/google-deepmind/mujoco_playground/issues/86.
    precise = jax.default_matmul_precision("highest")

    physics = randomization.make(randomization.users(config.randomization), env.unwrapped.sys)

    def reset(key):
        keys = jax.random.key_data(jax.random.split(key))  # Brax's own code splits raw keys
        numbers = physics.draw(keys[1])
        with precise, having(env, physics.model(numbers)):
            state = env.reset(keys[0])
        return (numbers, state), state.obs

    def step(state, action):
        numbers, state = state
        with precise, having(env, physics.model(numbers)):
            state = env.step(state, jnp.clip(action, -1.0, 1.0))
        # A copy: Brax's environments write into the dictionary of their state.
        return (numbers, state), wrappers.Single(state.obs, state.reward, state.done > 0, dict(state.metrics))

    action = Box((env.action_size,))
    time_limit = math.ceil(config.episode_length / config.action_repeat)
    step = wrappers.repeat_action(step, config.action_repeat)
    reset, step = wrappers.lean(reset, step, action, lambda state: (state[0], state[1].pipeline_state.q))
    is_small = config.backend in SMALL
    reset_all, step_all = wrappers.restarting(reset, step, num_envs, action, time_limit, restarts, is_small=is_small)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    spec = Spec(num_envs, jax.ShapeDtypeStruct(obs.shape, obs.dtype), action, time_limit, all_valid=True)
    return Environment(reset_all, step_all, spec)


def scene(config: ConfigDict) -> Scene:
    """How it is drawn, as it is without randomized physics; on every backend q is MuJoCo's qpos."""
    env = _load(config)
    is_state = lambda x: isinstance(x, _library().State)  # noqa: E731

    def qpos(env_state):
        [state] = filter(is_state, jax.tree.leaves(env_state, is_leaf=is_state))
        return state.pipeline_state.q

    return Scene(env.unwrapped.sys.mj_model, qpos, float(env.dt) * config.action_repeat)


def control(config: ConfigDict) -> Control:
    """The time that an action lasts; Brax's own actions are in [-1, 1] too."""
    return Control(float(_load(config).dt) * config.action_repeat)


def _load(config):
    """Brax's environment."""
    library = _library()
    if config.name not in library._envs:
        raise ConfigError(f"config.env.name={config.name!r} is not in Brax; {nearest(config.name, names())}")
    if config.backend not in CHOICES["backend"]:
        cure = nearest(config.backend, list(CHOICES["backend"]))
        raise ConfigError(f"config.env.backend={config.backend!r} does not exist; {cure}")
    with quiet():
        try:
            return library.get_environment(config.name, backend=config.backend)
        except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"config.env.backend={config.backend!r} cannot run {config.name} ({error}); "
                "every environment of Brax runs on generalized."
            ) from error


@contextlib.contextmanager
def having(env, sys):
    """The environment with other physics for a while, as Brax's own wrapper gives it them."""
    before, env.unwrapped.sys = env.unwrapped.sys, sys
    try:
        yield
    finally:
        env.unwrapped.sys = before


def _library():
    with quiet():
        mjx.load()
        import brax.envs
        import brax.fluid
        import brax.io.mjcf
    brax.fluid.jp = _Numpy(clip=_clip)
    brax.io.mjcf.jp = _Numpy(array=_put)
    return brax.envs


class _Numpy:
    """jax.numpy, but for what Brax 0.14.2 should call in another way."""

    def __init__(self, **ours):
        self.__dict__.update(ours)

    def __getattr__(self, name):
        return getattr(jnp, name)


def _clip(x, a_min=None, a_max=None):
    """As it was once, for the fluid forces, without which the swimmer does not swim."""
    return jnp.clip(x, a_min, a_max)


def _put(x):
    """The numbers of a model, of which jnp.array copies each by a program of its own: 60 to compile for ant."""
    return x if isinstance(x, jax.Array) else jax.device_put(np.array(x))
