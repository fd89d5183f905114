"""What S seeds in one program cost, in units of one run: python benchmarks/sweep.py --seeds 16

Each of `map` (one after the other in the program), `vmap` (side by side) and `calls` (the program of one run, called S
times) takes its turn beside one run alone; medians over the turns. Compiling is told apart.
"""

import argparse
import statistics
import time

import jax
import numpy as np

import jaxrl
from jaxrl.host import sharding
from jaxrl.host.sweeping import wave


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/cartpole.py")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=10, help="of one epoch")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    config = jaxrl.configure(arguments.config, {"eval.episodes": 0})
    mesh, hyper = sharding.mesh(jax.devices()[:1]), jaxrl.build(config).algorithm.hyper
    crews = {"alone": (1, "map"), "map": (arguments.seeds, "map"), "vmap": (arguments.seeds, "vmap")}
    turns = {name: prepare(config, hyper, *crew, mesh, arguments.iterations) for name, crew in crews.items()}
    seconds = {name: [] for name in (*turns, "calls")}
    for _ in range(arguments.turns):
        for name, (_, turn) in turns.items():
            seconds[name].append(clock(turn))
        seconds["calls"].append(clock(lambda: [turns["alone"][1]() for _ in range(arguments.seeds)]))
    one = statistics.median(seconds["alone"])
    for name, taken in seconds.items():
        compiling = f", compiled in {turns[name][0]:.1f} s" if name in turns else ""
        middle = statistics.median(taken)
        print(f"{name:6} {middle:8.3f} s = {middle / one:5.1f} x one{compiling}", flush=True)


def prepare(config, hyper, size, mapping, mesh, iterations):
    """(seconds to compile, a function that trains `size` seeds for one epoch and waits for it)."""
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
    main()
