"""PureJaxRL's PPO for continuous actions, from a checkout: https://github.com/luchris429/purejaxrl, not on PyPI."""

import functools
import importlib.util
import pathlib
import sys
import types

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from brax import envs
from brax.envs.wrappers import training


def make(problem, shared):
    """A step that runs PureJaxRL's whole compiled training, initialisation included.

    Its training is one scan without a way to go on from a state; each call also resets the environments once, in
    `problem.iterations * problem.unroll_length` steps. Its net and its backend are written into its files; both are
    replaced from here so that it solves the same problem.

    Args:
        problem: a problem.Problem; `purejaxrl` is the path of the checkout.
        shared: must be False, PureJaxRL has no shared trunk.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, blocks, returns the env steps done.
    """
    if shared:
        raise ValueError("PureJaxRL has separate policy and value nets only.")
    ppo = _load(pathlib.Path(problem.purejaxrl))
    ppo.BraxGymnaxWrapper = functools.partial(ppo.BraxGymnaxWrapper, backend=problem.backend)
    ppo.ActorCritic = functools.partial(_ActorCritic, hidden_sizes=problem.hidden_sizes)
    train = jax.jit(
        ppo.make_train(
            {
                "ENV_NAME": problem.env_name,
                "NUM_ENVS": problem.num_envs,
                "NUM_STEPS": problem.unroll_length,
                "TOTAL_TIMESTEPS": problem.env_steps_per_call,
                "NUM_MINIBATCHES": problem.num_minibatches,
                "UPDATE_EPOCHS": problem.update_epochs,
                "LR": 3e-4,
                "ANNEAL_LR": False,
                "GAMMA": 0.99,
                "GAE_LAMBDA": 0.95,
                "CLIP_EPS": 0.2,
                "ENT_COEF": 0.0,
                "VF_COEF": 0.5,
                "MAX_GRAD_NORM": 1.0,
                "ACTIVATION": "elu",
                "NORMALIZE_ENV": True,
                "DEBUG": False,
            }
        )
    )
    key = jax.random.PRNGKey(0)

    def step():
        nonlocal key
        key, train_key = jax.random.split(key)
        jax.block_until_ready(train(train_key))
        return problem.env_steps_per_call

    return step


def _load(checkout):
    """The module with PureJaxRL's PPO, kept importable on the libraries of today."""
    if importlib.util.find_spec("navix") is None:
        sys.modules["navix"] = types.ModuleType("navix")  # imported, but not used by Brax environments
    if not hasattr(envs, "wrapper"):
        envs.wrapper = training  # where Brax once had them
    # Its files import each other as top-level modules.
    sys.path.insert(0, str(checkout / "purejaxrl"))
    return importlib.import_module("ppo_continuous_action")


class _ActorCritic(nn.Module):
    """The problem's net, with the call that PureJaxRL makes of its own."""

    action_size: int
    activation: str
    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, obs):
        def tower(width):
            hidden = obs
            for hidden_size in self.hidden_sizes:
                hidden = nn.elu(nn.Dense(hidden_size)(hidden))
            return nn.Dense(width)(hidden)

        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        policy = distrax.MultivariateNormalDiag(tower(self.action_size), jnp.exp(log_std))
        return policy, tower(1)[..., 0]
