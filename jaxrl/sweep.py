"""Trains many runs of one experiment, as few programs: python -m jaxrl.sweep --config=experiments/cartpole.py --seeds=4

The same command with the same workdir goes on where it stopped. --help tells more.
"""

import difflib
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.doors import refuse
from jaxrl.host import config as configs
from jaxrl.host import keys, processes
from jaxrl.host.keys import error
from jaxrl.host.sweeping import flags, members, population
from jaxrl.types import ConfigError

USAGE = """\
Usage: python -m jaxrl.sweep --config=PATH[:ARG] [--sweep='KEY=VALUES ...'] [--seeds=N] [--config.KEY=VALUE ...]

Trains a run for every combination of values and seeds. Runs whose configs differ in numbers that may change without
compiling, and in the seed, are one program; the others are programs of their own. The same command with the same
workdir goes on where it stopped.

  --config, --workdir, --config.KEY=VALUE
                         as jaxrl.train takes them; each run has its folder in the workdir, runs/EXPERIMENT_sweep if not
                         given
  --sweep='KEY=VALUES ...'
                         the values of each key: 1e-4,3e-4,1e-3 (every combination is trained), uniform(LOW,HIGH) or
                         loguniform(LOW,HIGH) (drawn at random); values with commas stand in brackets
  --samples=N            how many random draws
  --sweep_seed=0         from which the draws follow
  --seeds=N              runs of each setting, with the seeds config.seed, config.seed + 1, ...; or a list: 0,3,5
  --pbt=ENV_STEPS        the runs are a population: each so many steps, the worst become copies of the best, with what
                         is swept a little changed (population-based training); without --seeds each has its own seed
  --pbt_fraction=0.2     of the runs that become copies, and that are copied
  --pbt_perturb=0.8,1.2  one of these multiplies each number in a copy, within the range that is swept
  --pbt_resample=0.25    probability that it is drawn anew from that range instead
  --engine=local|ray     where the runs are trained: on this machine, or on a Ray cluster; a file of jaxrl/host/engines
  --help                 this text

Examples:
  python -m jaxrl.sweep --config=cartpole --seeds=4 --sweep='ppo.learning_rate=1e-3,3e-3 ppo.entropy_cost=0,1e-2'
  python -m jaxrl.sweep --config=ant --sweep='ppo.learning_rate=loguniform(1e-4,3e-3)' --samples=16
  python -m jaxrl.sweep --config=ant --sweep='ppo.learning_rate=loguniform(1e-4,1e-2)' --samples=16 --pbt=2000000
  python -m jaxrl.sweep --config=ant --sweep='ppo.learning_rate=loguniform(1e-4,3e-3)' --samples=32 --engine=ray
"""

CURVES = 10  # settings at most in the picture
PBT = ("pbt", "pbt_fraction", "pbt_perturb", "pbt_resample")
OWN = ("sweep", "samples", "sweep_seed", "seeds", "engine", *PBT)


class Arguments(NamedTuple):
    """What the command line of `sweep` says."""

    config: str  # as `config.load` takes it
    workdir: Path
    overrides: list[tuple[str, str]]
    axes: members.Axes
    seeds: list[int] | int | None
    samples: int
    sweep_seed: int
    engine: str
    options: dict[str, Any]  # of the engine
    pbt: dict[str, Any] | None  # as `population.make` takes it


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 done, 2 bad input, 3 all members broken, 128 + n signal n."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parse(argv)
        request = members.Request(
            configs.load(arguments.config),
            arguments.overrides,
            arguments.axes,
            arguments.seeds,
            arguments.samples,
            arguments.sweep_seed,
            own_seeds=arguments.pbt is not None,
        )
        # JAX takes seconds to load, and a mistyped command line should not.
        from jaxrl.host.sweeping import family, sweep

        command_line = ["python", "-m", "jaxrl.sweep", *argv]
        done = sweep.conduct(
            request, arguments.workdir, command_line, arguments.engine, arguments.options, arguments.pbt
        )
    except ConfigError as mistake:
        return refuse(mistake)
    print(done)
    if done.table and (picture := _draw(done)):
        print(f"curves in {picture}, or `python -m jaxrl.plot {shlex.quote(str(done.workdir))}`")
    if done.table and done.population and (picture := family.draw(done, done.workdir / "plots" / "lineage.png")):
        print(f"lineage in {picture}, its numbers in {done.workdir / 'lineage.csv'}")
    if done.signal:
        return 128 + done.signal
    return 3 if all(row["status"] == "broken" for row in done.table) else 0


def parse(argv: list[str]) -> Arguments:
    """Reads the arguments; --help prints and exits with status 0.

    Raises:
        ConfigError: a flag does not exist, or its value is not valid.
    """
    if {"-h", "--help"} & set(argv):
        usage, examples, rest = USAGE.partition("\nExamples:")
        sys.stdout.write(usage + flags.text() + examples + rest)
        raise SystemExit(0)
    own, rest, words, of_engines = {}, [], list(argv), flags.names(argv)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--")
        if flag.startswith("--") and name in (*OWN, *of_engines):
            if not equals and words and not words[0].startswith("--"):
                value = words.pop(0)
            if not value:
                raise error(f"{flag} needs a value; write {flag}=VALUE")
            own[name] = value
            continue
        is_known = flag in configs.FLAGS or flag.startswith("--config.") or not flag.startswith("--")
        near = [] if is_known else difflib.get_close_matches(name, [*OWN, *of_engines], n=1, cutoff=0.7)
        if near:
            raise error(f"{keys.clip(word)} is not a flag; did you mean --{near[0]}{equals}{value}?")
        rest.append(word)
    known = configs.parse_command_line(rest)
    if processes.group(known.processes):
        raise error(
            "a sweep is one process, and this is one of several; start one sweep on each host, with --num_processes=1, "
            "a part of the values or seeds, and a --workdir of its own"
        )
    has_workdir = any(word.partition("=")[0] == "--workdir" for word in rest)
    workdir = known.workdir if has_workdir else known.workdir.with_name(f"{known.workdir.name}_sweep")
    engine = own.get("engine", "local")
    return Arguments(
        config=known.config,
        workdir=workdir,
        overrides=known.overrides,
        axes=members.parse(own.get("sweep", "")),
        seeds=members.parse_seeds(own["seeds"]) if "seeds" in own else None,
        samples=_count(own, "samples", 0),
        sweep_seed=_count(own, "sweep_seed", 0),
        engine=engine,
        pbt=population.parse(own),
        options=flags.read(engine, {name: text for name, text in own.items() if name not in OWN}),
    )


def _draw(done) -> Path | None:
    """The curves of the best settings, one each with its band over seeds."""
    from jaxrl import plot

    try:
        return plot.draw(done.folders_of(CURVES), done.workdir / "plots" / "sweep.png")
    except ConfigError as mistake:  # a member that broke before its first row
        print(f"no picture: {mistake}")
        return None


def _count(own, name, default):
    text = own.get(name, str(default))
    if not text.isdecimal():
        raise error(f"--{name}={keys.clip(text)} must be a whole number, such as {default or 8}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
