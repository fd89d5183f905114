"""Shows what fresh initial states cost: python benchmarks/restart.py --env brax/ant --num_envs 256

Steps the same environments under random actions with initial states that are drawn anew as they are in training, and
with ones that stay, in turns; prints the ratio of the times.
"""

import argparse
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(arguments=None):
    arguments = _parse(arguments)
    sys.path.insert(0, str(ROOT))
    from jaxrl.host import program

    program.use_compilation_cache()
    fresh, stay = (stepper(arguments.env, arguments.num_envs, arguments.steps, renewed) for renewed in (True, False))
    times = {fresh: [], stay: []}
    for turn in range(arguments.turns + 1):  # the first is not counted
        for run, took in times.items():
            took.append(run(turn))
    ratios = [a / b for a, b in zip(times[fresh][1:], times[stay][1:], strict=True)]
    per_step = 1e6 * statistics.median(times[fresh][1:]) / arguments.steps
    best = min(times[fresh][1:]) / min(times[stay][1:])
    print(
        f"{arguments.env} x {arguments.num_envs}: {per_step:,.0f} µs a step; with fresh initial states "
        f"{statistics.median(ratios):.3f} times that without (median of {arguments.turns}; of the fastest {best:.3f})"
    )


def stepper(name, num_envs, num_steps, renewed):
    """seed -> seconds for so many steps, compiled; initial states stay as they are unless they are renewed."""
    import jax

    import jaxrl
    from jaxrl.envs import spaces, wrappers

    usual = wrappers.sometimes
    wrappers.sometimes = usual if renewed else lambda when, change, tree, *rest: tree
    env = jaxrl.make_env(name, num_envs)

    def step(state, key):
        state, timestep = env.step(state, spaces.sample(env.spec.action, key, num_envs))
        return state, timestep.reward.mean()

    states = [jax.jit(env.reset)(jax.random.key(0))[0]]
    keys = jax.random.split(jax.random.key(1), num_steps)
    steps = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys), donate_argnums=0)
    steps = steps.lower(states[0], keys).compile()
    wrappers.sometimes = usual

    def run(turn):
        state = states.pop()
        began = time.perf_counter()
        state, _ = jax.block_until_ready(steps(state, keys))
        states.append(state)
        return time.perf_counter() - began

    return run


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="brax/ant", help="suite/name")
    parser.add_argument("--num_envs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=256, help="that are timed at once")
    parser.add_argument("--turns", type=int, default=9)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
