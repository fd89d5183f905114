"""Weak scaling over processes of one machine: a second process with as many environments as the first.

Three ways take turns: one process; two that know nothing of each other, which is what the machine has to give; two as
one program, which sum a gradient in every minibatch. Each process trains CartPole's size of a net on a probe, on one
device. The efficiency is the rate of the program over that of the two apart.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report

EXPERIMENT = """
def get_config():
    return {
        "total_env_steps": 10**10, "epoch_iterations": 4, "writers": ("jsonl",),
        "env": {"suite": "probe", "name": "target"}, "network": {"hidden_sizes": (64, 64)},
        "ppo": {"num_envs": NUM_ENVS, "unroll_length": 32, "num_minibatches": 4, "update_epochs": 4},
        "eval": {"episodes": 0}, "checkpoint": {"interval": 10**10},
    }
"""
WAYS = ("one process", "two apart", "two as one program")
SPEED = "speed/env_steps_per_second"


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--num_envs", type=report.count, default=512, help="environments of each process")
    parser.add_argument("--seconds", type=float, default=20.0, help="that each run lasts, compiling included")
    parser.add_argument("--turns", type=report.count, default=5, help="of each way")


def run(arguments) -> report.Result:
    """Lets the three ways take turns."""
    rates = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for number in (1, 2):
            text = EXPERIMENT.replace("NUM_ENVS", str(number * arguments.num_envs))
            (folder / f"of_{number}.py").write_text(text)
        for turn in range(arguments.turns):
            report.say(f"turn {turn + 1} of {arguments.turns}")
            for way in WAYS if turn % 2 == 0 else reversed(WAYS):
                rates[way].append(measure(way, folder / f"{way} {turn}", folder, arguments.seconds))
    one, apart, program = (rates[way] for way in WAYS)
    ratios = {
        "as one program / apart": statistics.median(map(float.__truediv__, program, apart)),
        "apart / one": statistics.median(map(float.__truediv__, apart, one)),
    }
    rows = [
        [way, f"{statistics.median(taken):,.0f}", f"{min(taken):,.0f} - {max(taken):,.0f}"]
        for way, taken in rates.items()
    ]
    label = f"{arguments.num_envs} environments a process, {arguments.turns} turns"
    medians = [statistics.median(taken) for taken in rates.values()]
    figure = report.Bars(
        label, "env steps/s", list(WAYS), medians, list(map(min, rates.values())), list(map(max, rates.values()))
    )
    return report.Result(
        [report.Table(label, ("way", "env steps/s", "min - max"), rows)],
        {f"{label}: {name}": report.Ratio(value) for name, value in ratios.items()},
        [figure],
        data={"rates": rates},
    )


def measure(way: str, workdir: pathlib.Path, folder: pathlib.Path, seconds: float) -> float:
    """Env steps a second of all processes together: the median over epochs, without the first."""
    if way == WAYS[2]:
        from jaxrl.host import lifeline

        who = [f"--coordinator=localhost:{lifeline.free_port()}", "--num_processes=2"]
        train([[f"--workdir={workdir}", *who, f"--process_id={i}"] for i in (0, 1)], folder / "of_2.py", seconds)
        return rate(workdir)
    parts = [workdir.with_name(f"{workdir.name} {i}") for i in range(1 if way == WAYS[0] else 2)]
    train([[f"--workdir={part}"] for part in parts], folder / "of_1.py", seconds)
    return sum(map(rate, parts))


def train(processes: list[list[str]], experiment: pathlib.Path, seconds: float) -> None:
    """Runs processes of jaxrl.train side by side to their end."""
    device = "--xla_force_host_platform_device_count=1"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": device, "PYTHONPATH": str(report.ROOT)}
    limit = f"--config.stop.wall_clock_limit_s={seconds}"
    command = [sys.executable, "-m", "jaxrl.train", f"--config={experiment}", limit]
    running = [
        subprocess.Popen([*command, *flags], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for flags in processes
    ]
    for child in running:
        _, said = child.communicate()
        if child.returncode:
            raise RuntimeError(f"a process ended with status {child.returncode}: {said.decode()[-500:]}")


def rate(workdir: pathlib.Path) -> float:
    """Of one run."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([row[SPEED] for row in rows if SPEED in row][1:])


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["processes", *sys.argv[1:]]))
