"""No learning: random actions through Brax's own training wrappers, in one compiled scan."""

import jax
from brax import envs
from brax.envs import training


def make(problem, shared):
    """A step that only moves the physics.

    Args:
        problem: a problem.Problem.
        shared: unused, there is no net.

    Returns:
        `step() -> int`: runs `problem.iterations` rollouts of uniform actions in [-1, 1], blocks, returns the env
        steps done.
    """
    del shared
    env = training.wrap(
        envs.get_environment(problem.env_name, backend=problem.backend), episode_length=problem.episode_length
    )
    num_steps = problem.iterations * problem.unroll_length

    def one_step(state, key):
        action = jax.random.uniform(key, (problem.num_envs, env.action_size), minval=-1.0, maxval=1.0)
        return env.step(state, action), None

    def many_steps(state, key):
        key, steps_key = jax.random.split(key)
        state, _ = jax.lax.scan(one_step, state, jax.random.split(steps_key, num_steps))
        return state, key

    many_steps = jax.jit(many_steps, donate_argnums=0)
    reset_key, key = jax.random.split(jax.random.PRNGKey(0))
    state = jax.jit(env.reset)(jax.random.split(reset_key, problem.num_envs))

    def step():
        nonlocal state, key
        state, key = jax.block_until_ready(many_steps(state, key))
        return problem.env_steps_per_call

    return step
