"""Growth: the rate over the number of environments, physics alone beside it, and time and memory over the env steps.

For each number of environments the systems take turns, as in `speed`; then the largest runs on, and the time and the
peak of its memory are noted along the way: time has to grow in proportion to the env steps, memory not at all. The
memory of a whole run, with its writers, evaluations and checkpoints, is what `memory` is about.
"""

import os

from benchmarks import report, turns, worker
from benchmarks.problem import Problem

SYSTEMS = ["physics", "jaxrl_shared"]
NUM_ENVS = {"cpu": (64, 256, 1024, 4096), "accelerator": (64, 256, 1024, 4096, 16_384, 65_536)}
ENV_STEPS_PER_CALL = 16_384  # at least; so that a call of few environments is not over at once
STRETCHES = 8  # of the long run
LINEAR = 1.1  # times the proportional time
FLAT = 1.03  # times the memory after the first stretch


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--env", nargs="+", default=["ant", "inverted_double_pendulum"], help="Brax environments")
    parser.add_argument("--backend", default=Problem("").backend, help="of Brax")
    parser.add_argument("--num_envs", nargs="+", type=report.count, help="by default 64 to 4,096; on a GPU 65,536")
    turns.arguments(parser, SYSTEMS)


def run(arguments) -> report.Result:
    """Measures one environment after the other."""
    result = report.Result([], {}, [], {})
    failed = False
    sizes = arguments.num_envs or NUM_ENVS["accelerator" if report.machine()["accelerator"] else "cpu"]
    for env_name in arguments.env:
        found = {}
        for num_envs in sizes:
            problem = problem_of(env_name, arguments.backend, num_envs)
            contestants = turns.contestants(arguments.systems, problem, arguments.python)
            found[num_envs] = turns.measure(contestants, arguments.repeats, arguments.seconds)
        failed |= not all(turns.measured(each) for results in found.values() for each in results.values())
        largest = problem_of(env_name, arguments.backend, sizes[-1])
        stretches = long_run(turns.contestants(["jaxrl_shared"], largest, arguments.python), arguments.seconds)
        result.tables.extend([over_envs(env_name, arguments, found), over_steps(largest, stretches)])
        result.ratios.update(ratios(env_name, stretches))
        result.figures.append(curves(env_name, arguments, found))
        result.data[env_name] = {"num_envs": found, "stretches": stretches, "load": os.getloadavg()}
    return result._replace(failed=failed)


def problem_of(env_name, backend, num_envs):
    """The problem of `speed` with so many environments."""
    problem = Problem(env_name, backend=backend, num_envs=num_envs)
    return problem._replace(iterations=max(1, ENV_STEPS_PER_CALL // problem.env_steps_per_iteration))


def long_run(contestants, seconds):
    """(env steps, seconds, peak MiB) of jaxrl after each of several stretches of so many seconds, after its warm-up."""
    [contestant] = contestants.values()
    running = worker.Worker(
        worker.Job(contestant.system.module, contestant.problem, contestant.system.shared), contestant.python
    )
    stretches = [(0, 0.0, 0.0)]
    for _ in range(STRETCHES):
        env_steps, before, _ = stretches[-1]
        window = running.run(seconds=seconds)
        stretches.append((env_steps + window.env_steps, before + window.seconds, window.peak_rss_mb))
    running.close()
    return stretches[1:]


def over_envs(env_name, arguments, found):
    """One number of environments a row."""
    names = arguments.systems
    ours = [name for name in names if name != "physics" and "physics" in names]
    columns = ("num_envs", *names, *(f"{name} / physics" for name in ours), "peak MiB")
    rows = []
    for num_envs, results in found.items():
        rates = [f"{results[name]['rate']:,.0f}" if turns.measured(results[name]) else "failed" for name in names]
        shares = [turns.ratio(results, name, "physics") for name in ours]
        told = ["" if share is None else f"{share:.2f}" for share in shares]
        peak = results[names[-1]].get("peak_rss_mb")
        rows.append([f"{num_envs:,}", *rates, *told, "" if peak is None else f"{peak:,.0f}"])
    return report.Table(f"{env_name} {arguments.backend}: env steps/s over the number of environments", columns, rows)


def over_steps(problem, stretches):
    """One stretch a row."""
    rows = [
        [f"{steps:,}", f"{seconds:.1f}", f"{steps / seconds:,.0f}", f"{mb:,.0f}"] for steps, seconds, mb in stretches
    ]
    columns = ("env steps", "seconds", "env steps/s since the start", "peak MiB")
    return report.Table(f"{problem.sizes}: jaxrl over the env steps", columns, rows)


def ratios(env_name, stretches):
    """What has to hold of a long run; its second half is compared with its first."""
    half = stretches[len(stretches) // 2 - 1]
    last, first = stretches[-1], stretches[0]
    per_step = (last[1] - half[1]) / (last[0] - half[0]) / (half[1] / half[0])
    return {
        f"{env_name}: time of an env step, second half of a run / first": report.Ratio(per_step, "≤", LINEAR),
        f"{env_name}: peak memory, end of a run / its first eighth": report.Ratio(last[2] / first[2], "≤", FLAT),
    }


def curves(env_name, arguments, found):
    """Rates over the number of environments."""
    series = {
        name: [
            (num_envs, results[name]["rate"]) for num_envs, results in found.items() if turns.measured(results[name])
        ]
        for name in arguments.systems
    }
    series = {name: points for name, points in series.items() if points}
    title = f"{env_name}, Brax {arguments.backend}"
    return report.Curves(title, "environments", "env steps a second", series, is_log=True)
