"""A population against the fixed grid that it begins as, at equal env steps: python benchmarks/population.py

The task is a probe whose best learning rate falls along the run: reward -(a - x/2)² for naming half of the x that is
shown. A high rate gets there soon and then trembles around it, a low one does not get there in time. The grid trains S
rates, drawn log-uniformly, to the end; the population begins with the same members (rates, seeds, networks, episodes)
and makes exploits on the way. What is compared is the last evaluation, of the deterministic policy over 1024 episodes:
the mean squared error, which is minus the return.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import jax

from jaxrl.host import history
from jaxrl.host.sweeping import members, sweep
from jaxrl.host.sweeping.lineage import Lineage

EXPERIMENT = {
    "total_env_steps": 131_072,
    "epoch_iterations": 4,
    "writers": ("jsonl",),
    "env": {"suite": "probe", "name": "target"},
    "network": {"hidden_sizes": (16,)},
    "ppo": {"num_envs": 32, "unroll_length": 8, "num_minibatches": 2, "update_epochs": 2},
    "eval": {"episodes": 1024, "interval": 4096},
    "checkpoint": {"interval": 131_072, "keep_best": 0},
}
RATES = {"ppo.learning_rate": "loguniform(1e-4,1e-1)"}
PBT = {"interval": 8192, "fraction": 0.5, "perturb": (0.5, 1.5), "resample": 0.0}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            turn = {"seed": seed}
            for name, pbt in (("grid", None), ("population", PBT)):
                turn[name] = train(Path(folder, f"{name}{seed}"), seed, arguments.members, pbt)
            turns.append(turn)
            print(table(turns), flush=True)
    if arguments.json:
        made = {
            "jax": jax.__version__,
            "python": platform.python_version(),
            "machine": f"{os.cpu_count()} cores, {platform.platform()}",
            "device": jax.devices()[0].device_kind,
        }
        told = {"made_with": made, "experiment": EXPERIMENT, "sweep": RATES, "pbt": PBT, "turns": turns}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


def train(folder, seed, size, pbt):
    """What each member reached: its error at the end, the rate with which it began, the rates it ended with."""
    axes = {name: members.axis(name, values) for name, values in RATES.items()}
    request = members.Request(EXPERIMENT, {"seed": 1000 * seed}, axes, None, size, seed, own_seeds=True)
    done = sweep.conduct(request, folder, sys.argv, pbt=pbt)
    best = done.table[0]
    told = {
        "errors": [-row["return"] for row in done.table],
        "rates": [row["ppo.learning_rate"] for row in done.table],
        "env_steps": sum(row["env_steps"] for row in done.table),
    }
    if pbt:
        told["schedule"] = schedule(folder, best["member"])
    return told


def schedule(folder, member):
    """[[env steps, rate]] with which what the best member knows at the end was learned."""
    points, after = [], 0
    for until, name in [*Lineage(folder, RATES).ancestors(member), (EXPERIMENT["total_env_steps"], member)]:
        steps, rates = history.series(history.read(folder / name), "hyper/learning_rate")
        points += [[int(x), float(y)] for x, y in zip(steps, rates, strict=True) if after <= x <= until]
        after = until + 1
    return points


def table(turns):
    rows = [("seed", "grid best (its rate)", "grid mean", "population best", "population mean", "best / best")]
    for turn in turns:
        grid, bred = turn["grid"], turn["population"]
        best = f"{grid['errors'][0]:.2e} ({grid['rates'][0]:.2e})"
        means = [f"{statistics.mean(each['errors']):.2e}" for each in (grid, bred)]
        ratio = f"{grid['errors'][0] / bred['errors'][0]:.2f}"
        rows.append((str(turn["seed"]), best, means[0], f"{bred['errors'][0]:.2e}", means[1], ratio))
    return "\n".join("  ".join(cell.ljust(22) for cell in row).rstrip() for row in rows)


if __name__ == "__main__":
    main()
