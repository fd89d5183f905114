"""jaxrl's PPO: the compiled epoch of its training loop, its metrics fetched after each."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import ROOT
from jaxrl.host import config as configs
from jaxrl.host import program, sharding, shelf

sharding.wake()  # as training does, before anything else touches JAX
BRAX = ("backend", "episode_length")  # what a problem says of Brax's environments only


def make(problem, shared):
    """A step that runs one epoch of jaxrl and fetches its metrics.

    Args:
        problem: a problem.Problem.
        shared: one trunk for policy and value, or separate nets.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, blocks, returns the env steps done.
    """
    step, _ = _start(configure(problem, shared), problem.iterations)
    return step


def configure(problem, shared):
    """The problem as a config of jaxrl."""
    physics = {key: getattr(problem, key) for key in BRAX if problem.suite == "brax"}
    return configs.resolve(
        {
            "env": {"suite": problem.suite, "name": problem.env_name, **physics},
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


def learn(seed, interval):
    """The recipe of experiments/ant.py: on a CPU, which few environments keep busy, that of its `fast`."""
    path = str(ROOT / "experiments" / "ant.py")
    fast = ":fast" if jax.default_backend() == "cpu" else ""
    config = configs.resolve(configs.load(path + fast), [("seed", str(seed)), ("eval.episodes", "0")])
    return _start(config, -(-interval // (config.ppo.num_envs * config.ppo.unroll_length)))


def _start(config, iterations):
    """step and act of a run, the step being so many iterations."""
    mesh = program.mesh(config)
    source = program.make(config, mesh)
    programs = program.compile(source, mesh, config.seed, shelf.find(config, mesh, source.env, ()))
    state = programs.init()
    num_iterations = jax.device_put(np.int32(iterations), sharding.replicated(mesh))
    env_steps = iterations * config.ppo.num_envs * config.ppo.unroll_length

    def step():
        nonlocal state
        state, metrics = programs.epoch(state, num_iterations)
        jax.device_get(metrics)
        return env_steps

    @jax.jit
    def choose(agent, obs):
        action, _ = source.algorithm.policy(agent, (), obs, jnp.zeros(len(obs), bool))
        return jnp.clip(action, -1.0, 1.0)

    return step, lambda obs: choose(state.agent, obs)
