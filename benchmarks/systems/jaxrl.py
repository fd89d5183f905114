"""jaxrl's PPO: the compiled epoch of its training loop, its metrics fetched after each."""

import jax
import numpy as np

from jaxrl.host import config as configs
from jaxrl.host import program, sharding


def make(problem, shared):
    """A step that runs one epoch of jaxrl and fetches its metrics.

    Args:
        problem: a problem.Problem.
        shared: one trunk for policy and value, or separate nets.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, blocks, returns the env steps done.
    """
    config = configs.resolve(
        {
            "env": {
                "name": problem.env_name,
                "backend": problem.backend,
                "episode_length": problem.episode_length,
            },
            "network": {"hidden_sizes": problem.hidden_sizes, "activation": "elu", "shared": shared},
            "ppo": {
                "num_envs": problem.num_envs,
                "unroll_length": problem.unroll_length,
                "num_minibatches": problem.num_minibatches,
                "update_epochs": problem.update_epochs,
                "learning_rate": 3e-4,
                "gamma": 0.99,
                "lambda_": 0.95,
                "clip": 0.2,
                "max_gradient_norm": 1.0,
            },
            "eval": {"episodes": 0},
        }
    )
    mesh = sharding.mesh()
    programs = program.compile(program.make(config, mesh), mesh, config.seed)
    state = programs.init()
    num_iterations = jax.device_put(np.int32(problem.iterations), sharding.replicated(mesh))

    def step():
        nonlocal state
        state, metrics = programs.epoch(state, num_iterations)
        jax.device_get(metrics)
        return problem.env_steps_per_call

    return step
