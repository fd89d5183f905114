"""The parts of a problem that benchmarks compile, with their abstract arguments.

As a program it compiles one part in a process of its own and prints how long that took: benchmarks.start calls it.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem


def epoch(problem, shared=True, mesh=None):
    """jaxrl's epoch as training compiles it, by default for the first device, and its arguments."""
    source, state = _source(problem, shared, mesh)
    return jax.jit(source.epoch.run, donate_argnums=0), (state, jax.ShapeDtypeStruct((), jnp.int32))


def renewal(problem, mesh=None):
    """What comes before each epoch, a program of its own: initial states drawn anew."""
    source, state = _source(problem, True, mesh)
    return jax.jit(source.epoch.renew, donate_argnums=0), (state,)


def _source(problem, shared, mesh):
    from benchmarks.systems import jaxrl as system
    from jaxrl.host import program, sharding

    source = program.make(system.configure(problem, shared), mesh or sharding.mesh(jax.devices()[:1]))
    hyper = jax.tree.map(np.float32, source.algorithm.hyper)
    return source, jax.eval_shape(source.init, jnp.uint32(0), hyper)


def environment(problem):
    """A scan over the steps of jaxrl's environment, as it is trained, under given actions."""
    from benchmarks.systems import jaxrl as system
    from jaxrl import envs
    from jaxrl.envs import wrappers

    env = envs.make(system.configure(problem, True).env, problem.num_envs, wrappers.TOLD)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))

    def steps(state, actions):
        def step(state, action):
            state, timestep = env.step(state, action)
            return state, timestep

        return jax.lax.scan(step, state, actions)

    return jax.jit(steps, donate_argnums=0), (state, _actions(problem, env.spec.action.shape))


def physics(problem):
    """The same over Brax's own training wrappers."""
    from jaxrl.envs.quiet import quiet

    with quiet():
        from brax import envs
        from brax.envs import training

        env = envs.get_environment(problem.env_name, backend=problem.backend)
    env = training.wrap(env, episode_length=problem.episode_length)
    keys = jax.ShapeDtypeStruct((problem.num_envs, 2), jnp.uint32)
    state = jax.eval_shape(env.reset, keys)

    def steps(state, actions):
        def step(state, action):
            state = env.step(state, action)
            return state, (state.obs, state.reward, state.done)

        return jax.lax.scan(step, state, actions)

    return jax.jit(steps, donate_argnums=0), (state, _actions(problem, (env.action_size,)))


def _actions(problem, shape):
    return jax.ShapeDtypeStruct((problem.unroll_length, problem.num_envs, *shape), jnp.float32)


PARTS = {"epoch": epoch, "renewal": renewal, "environment": environment, "physics": physics}


def main(name, problem):
    """Seconds of the three steps of compiling, as a line of JSON."""
    from jaxrl.host import program

    problem = json.loads(problem)
    problem = Problem(**{**problem, "hidden_sizes": tuple(problem["hidden_sizes"])})
    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.zeros(1)))  # the compiler itself starts too
    function, arguments = PARTS[name](problem)
    jax.clear_caches()  # what making the state has traced
    with program.uncollected():  # as training compiles; a full collection, which may come at any time, takes 0.2 s
        times = [time.perf_counter()]
        traced = function.trace(*arguments)
        times.append(time.perf_counter())
        lowered = traced.lower()
        times.append(time.perf_counter())
        lowered.compile(program.QUICKLY if name == "renewal" and jax.default_backend() == "cpu" else None)
        times.append(time.perf_counter())
    print(json.dumps(dict(zip(("trace", "lower", "compile"), np.diff(times).tolist(), strict=True))))


if __name__ == "__main__":
    main(*sys.argv[1:])
