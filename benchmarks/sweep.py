"""What S seeds in one program cost, in units of one run.

Each of `map` (one after the other in the program), `vmap` (side by side) and `calls` (the program of one run, called S
times) takes its turn beside one run alone; medians over the turns. Compiling is told apart.
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
    parser.add_argument("--config", default=str(report.ROOT / "experiments" / "cartpole.py"), help="an experiment")
    parser.add_argument("--seeds", type=report.count, default=16, help="S")
    parser.add_argument("--iterations", type=report.count, default=10, help="of one epoch")
    parser.add_argument("--turns", type=report.count, default=5, help="of each")


def run(arguments) -> report.Result:
    """Compiles all, then lets them take turns."""
    import jax

    import jaxrl
    from jaxrl.host import sharding

    config = jaxrl.configure(arguments.config, {"eval.episodes": 0})
    mesh, hyper = sharding.mesh(jax.devices()[:1]), jaxrl.build(config).algorithm.hyper
    crews = {"alone": (1, "map"), "map": (arguments.seeds, "map"), "vmap": (arguments.seeds, "vmap")}
    turns = {name: prepare(config, hyper, *crew, mesh, arguments.iterations) for name, crew in crews.items()}
    seconds = {name: [] for name in (*turns, "calls")}
    for _ in range(arguments.turns):
        for name, (_, turn) in turns.items():
            seconds[name].append(clock(turn))
        seconds["calls"].append(clock(lambda: [turns["alone"][1]() for _ in range(arguments.seeds)]))
    times = {
        name: statistics.median(each / one for each, one in zip(taken, seconds["alone"], strict=True))
        for name, taken in seconds.items()
    }
    rows = [
        [
            name,
            f"{statistics.median(taken):.3f}",
            f"{times[name]:.1f}",
            f"{turns[name][0]:.1f}" if name in turns else "",
        ]
        for name, taken in seconds.items()
    ]
    label = f"{pathlib.Path(arguments.config).stem}, {arguments.seeds} seeds"
    best = min(times[name] for name in ("map", "vmap"))
    spread = [[each / one for each, one in zip(taken, seconds["alone"], strict=True)] for taken in seconds.values()]
    figure = report.Bars(
        label, "times one run", list(times), list(times.values()), list(map(min, spread)), list(map(max, spread))
    )
    return report.Result(
        [report.Table(label, ("how", "s", "times one", "compiled in, s"), rows)],
        {f"{label}: in one program / one run": report.Ratio(best, "≤", arguments.seeds)},
        [figure],
        data={"seconds": seconds},
    )


def prepare(config, hyper, size, mapping, mesh, iterations):
    """(seconds to compile, a function that trains `size` seeds for one epoch and waits for it)."""
    import jax
    import numpy as np

    from jaxrl.host.sweeping import wave

    built = wave.compile(config, hyper, size, mesh, mapping)
    states = wave.put([wave.to_host(built.init(seed, hyper)) for seed in range(size)], built.place)
    lengths = built.put_numbers([iterations] * size, np.int32)

    def turn():
        nonlocal states
        states, metrics = built.epoch(states, lengths)
        jax.block_until_ready(metrics)

    turn()
    return built.compile_seconds, turn


def clock(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["sweep", *sys.argv[1:]]))
