"""Times one program on 1, 2, ... fake devices of the same CPU, in turns: what sharing the environments out costs.

    python benchmarks/devices.py [--devices 1 2] [--env ant] [--num_envs 128] [--unroll_length 16] [--repeats 3]

All devices share the cores of one machine: several keep those busy that one leaves idle, and wait for each other. How
many devices there are is a process's own: each number of them is timed in one of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ITERATIONS = 4  # in one timed call


def measure(arguments) -> None:
    """In a process of its own: compiles, says so, and then times an epoch for each line that comes in."""
    import jax
    import numpy as np

    import jaxrl
    from jaxrl.host import program, sharding

    program.use_compilation_cache()
    overrides = {
        "env.name": arguments.env,
        "ppo.num_envs": arguments.num_envs,
        "ppo.unroll_length": arguments.unroll_length,
        "ppo.num_minibatches": 4,
        "ppo.update_epochs": 4,
        "eval.episodes": 0,
    }
    config = jaxrl.configure({"env": {"suite": "brax", "backend": "spring"}}, overrides)
    mesh = sharding.mesh()
    programs = program.compile(program.make(config, mesh), mesh, seed=0)
    number = jax.device_put(np.int32(ITERATIONS), sharding.replicated(mesh))
    state, _ = jax.block_until_ready(programs.epoch(programs.init(), number))
    print(json.dumps({"compile_seconds": programs.compile_seconds}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(programs.epoch(state, number))
        steps = ITERATIONS * arguments.num_envs * arguments.unroll_length
        print(json.dumps({"rate": steps / (time.perf_counter() - began)}), flush=True)


def start(devices: int, argv: list[str]) -> subprocess.Popen:
    """A process that measures on so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, "--child", *argv]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def main(argv: list[str] | None = None) -> None:
    """Takes turns, and prints rates and their ratios to the first."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--env", default="ant", help="of Brax")
    parser.add_argument("--num_envs", type=int, default=128)
    parser.add_argument("--unroll_length", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--json", help="file to write the rates to")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        measure(arguments)
        return
    workers, rates = {}, {devices: [] for devices in arguments.devices}
    for devices in rates:  # one after the other: compiling wants all cores
        workers[devices] = start(devices, argv)
        print(f"{devices} devices: compiled in {_told(workers[devices])['compile_seconds']:.1f} s", flush=True)
    for _ in range(arguments.repeats):
        for devices, worker in workers.items():
            worker.stdin.write("once more\n")
            worker.stdin.flush()
            rates[devices].append(_told(worker)["rate"])
    for worker in workers.values():
        worker.communicate()
    first = rates[arguments.devices[0]]
    for devices, seen in rates.items():
        ratios = [rate / reference for rate, reference in zip(seen, first, strict=True)]
        told = f"{statistics.median(seen):,.0f} env steps/s, {statistics.median(ratios):.2f} of the first"
        print(f"{devices} devices: {told} (turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"arguments": vars(arguments), "rates": rates}, indent=1))


def _told(worker):
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"error: a worker ended with status {worker.wait()}; what it said is above.")
    return json.loads(line)


if __name__ == "__main__":
    main()
