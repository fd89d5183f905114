"""Shows what fresh initial states cost.

Steps the same environments under random actions with initial states that are drawn anew between epochs, as they are in
training, and with ones that stay, in turns; the ratio of the times.
"""

import pathlib
import statistics
import sys
import time

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--env", default="brax/ant", help="suite/name")
    parser.add_argument("--num_envs", type=report.count, default=256, help="environments")
    parser.add_argument("--steps", type=report.count, default=256, help="of an epoch")
    parser.add_argument("--turns", type=report.count, default=9, help="of each")


def run(arguments) -> report.Result:
    """Measures, one turn after the other."""
    from jaxrl.host import program

    program.use_compilation_cache()
    fresh, stay = (stepper(arguments.env, arguments.num_envs, arguments.steps, renewed) for renewed in (True, False))
    times = {fresh: [], stay: []}
    for turn in range(arguments.turns + 1):  # the first is not counted
        for step, took in times.items():
            took.append(step(turn))
    with_, without = (times[each][1:] for each in (fresh, stay))
    ratios = [a / b for a, b in zip(with_, without, strict=True)]
    per_step = 1e6 * statistics.median(with_) / arguments.steps
    middle, fastest = statistics.median(ratios), min(with_) / min(without)
    label = f"{arguments.env} x {arguments.num_envs}"
    ways = {"fresh initial states": with_, "states that stay": without}
    scaled = [sorted(1e6 * each / arguments.steps for each in taken) for taken in ways.values()]
    middles, lows, highs = ([pick(each) for each in scaled] for pick in (statistics.median, min, max))
    figure = report.Bars(label, "microseconds a step", list(ways), middles, lows, highs)
    return report.Result(
        [
            report.Table(
                "fresh initial states",
                ("environments", "µs a step", f"times that without, median of {arguments.turns}", "of the fastest"),
                [[label, f"{per_step:,.0f}", f"{middle:.3f}", f"{fastest:.3f}"]],
            )
        ],
        figures=[figure],
        ratios={f"{label}: steps with fresh initial states / without": report.Ratio(middle)},
        data={"fresh": with_, "stay": without},
    )


def stepper(name, num_envs, num_steps, renewed):
    """seed -> seconds for so many steps, compiled; initial states stay as they are unless they are renewed."""
    import jax

    import jaxrl
    from jaxrl import envs
    from jaxrl.envs import spaces, wrappers
    from jaxrl.host import program, sharding

    suite, _, name = name.partition("/")
    env = envs.make(jaxrl.configure({"env": {"suite": suite, "name": name}}).env, num_envs, wrappers.TOLD)
    renew = wrappers.renewal(env) if renewed else None

    def step(state, key):
        state, timestep = env.step(state, spaces.sample(env.spec.action, key, num_envs))
        return state, timestep.reward.mean()

    states = [jax.jit(env.reset)(jax.random.key(0))[0]]
    keys = jax.random.split(jax.random.key(1), num_steps)
    steps = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys), donate_argnums=0)
    steps = steps.lower(states[0], keys).compile()
    if renew:
        options = program.QUICKLY if sharding.is_cpu(sharding.mesh()) else {}
        renew = jax.jit(renew, donate_argnums=0).lower(states[0]).compile(options)

    def run(turn):
        state = states.pop()
        began = time.perf_counter()
        state, _ = jax.block_until_ready(steps(renew(state) if renew else state, keys))
        states.append(state)
        return time.perf_counter() - began

    return run


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["restart", *sys.argv[1:]]))
