"""Whether learning is unchanged by the form in which a step is computed: the curves of Ant (Brax, spring) with each.

JAX maps environments as they stand (jax); an accelerator has all worked out sooner that can be (sooner); a CPU has them
in the last axis (last). The three round otherwise, after which no two runs are alike, so seeds are compared, of
experiments/ant.py:fast, on whatever device there is. The return at the end is the mean of a run's last five
evaluations: a single one swings by a thousand. Of every two forms the table says how likely means over the seeds would
be at least as far apart if the forms were alike; below 0.05 they are not (Welch's t-test, 1947,
https://doi.org/10.2307/2332510).

Each run has its folder, and the same command goes on where it was stopped. A run takes five minutes on two cores, or
three in the form of a CPU.
"""

import contextlib
import itertools
import math
import pathlib
import statistics
from unittest import mock

from scipy import stats

from benchmarks import report

EXPERIMENT = "experiments/ant.py:fast"
FORMS = ("jax", "sooner", "last")
LAST = 5  # evaluations that count as the end
TARGET = 6000.0  # mean return


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--forms", nargs="+", default=["jax", "sooner"], choices=FORMS, metavar="FORM", help="which")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="one run each")
    parser.add_argument("--env_steps", type=report.count, default=6_553_600, help="of a run")
    parser.add_argument("--interval", type=report.count, default=327_680, help="of env steps, between evaluations")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=report.RESULTS / "forms", help="where the folders of the runs lie"
    )


def run(arguments) -> report.Result:
    """All runs that are not finished yet, seed by seed, then the table of all."""
    import jax

    if "last" in arguments.forms and jax.default_backend() != "cpu":
        raise report.Refused("--forms last is how a CPU steps; leave it out, or set JAX_PLATFORMS=cpu")
    curves = {form: [] for form in arguments.forms}
    for seed, form in itertools.product(arguments.seeds, arguments.forms):
        curves[form].append(train(form, seed, arguments))
    return summarize(curves)


@contextlib.contextmanager
def stepping(form: str):
    """Environments that are made and traced here are stepped so."""
    from jaxrl.envs import brax, wrappers
    from jaxrl.functional import hoist

    if form == "last":
        yield
        return
    whole = mock.patch.object(wrappers, "piece", lambda total_bytes, num_envs: num_envs)
    small = mock.patch.object(brax, "SMALL", ())
    fused = mock.patch.object(wrappers, "fused", hoist.hoisted if form == "sooner" else lambda function: function)
    with whole, small, fused:
        yield


def train(form, seed, arguments):
    """[[env steps, mean return]] of the evaluations of one run, of its folder if it is finished."""
    import jaxrl
    from jaxrl.host import history

    folder = arguments.workdir / f"{form}-{seed}"
    rows = history.read(folder) if folder.exists() else []
    if not rows or rows[-1]["env_steps"] < arguments.env_steps:
        report.say(f"{form}, seed {seed}: {folder} ...")
        asked = {"seed": seed, "total_env_steps": arguments.env_steps, "eval.interval": arguments.interval}
        with stepping(form):
            rows = jaxrl.train(EXPERIMENT, folder, asked).history
    steps, returns = history.series(rows, "eval/episode_return")
    found = [[int(x), float(y)] for x, y in zip(steps, returns, strict=True)]
    report.say(f"{form}, seed {seed}: " + " ".join(f"{y:,.0f}" for _, y in found))
    return found


def summarize(curves) -> report.Result:
    """Of forms' curves, one a seed, what they came to, and whether every two are alike."""
    ends = {form: [statistics.mean(y for _, y in curve[-LAST:]) for curve in each] for form, each in curves.items()}
    whole = {form: [statistics.mean(y for _, y in curve) for curve in each] for form, each in curves.items()}
    rows, ratios = [], {}
    for form, each in curves.items():
        there = [next((x for x, y in curve if y >= TARGET), math.inf) for curve in each]
        cells = [" ".join(f"{end:,.0f}" for end in ends[form]), told(ends[form]), told(whole[form])]
        rows.append([form, *cells, f"{statistics.median(there):,.0f}"])
    for one, other in itertools.combinations(curves, 2):
        for name, values in {"at the end": ends, "of all evaluations": whole}.items():
            if min(len(values[one]), len(values[other])) > 1:
                chance = stats.ttest_ind(values[one], values[other], equal_var=False).pvalue
                ratios[f"{one} and {other}, {name}: chance if alike"] = report.Ratio(float(chance), "≥", 0.05)
            relative = statistics.mean(values[other]) / statistics.mean(values[one])
            ratios[f"{other} / {one}, {name}"] = report.Ratio(relative)
    columns = (
        "form",
        "returns at the end, by seeds",
        "mean",
        "mean of all evaluations",
        f"steps to {TARGET:,.0f}, median",
    )
    series = {form: mean_curve(each) for form, each in curves.items()}
    figure = report.Curves("ant, by the form of a step", "env steps", "mean return over the seeds", series)
    return report.Result([report.Table(EXPERIMENT, columns, rows)], ratios, [figure], {"curves": curves})


def told(values) -> str:
    """Their mean, with its standard error if it has one."""
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):,.0f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):,.0f}{error}"


def mean_curve(curves) -> list[tuple[float, float]]:
    """The mean over curves that have the same points; of what all have got to."""
    points = zip(*curves, strict=False)
    return [(each[0][0], statistics.mean(y for _, y in each)) for each in points]
