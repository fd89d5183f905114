"""What notebooks and scripts call: the command line's abilities as functions."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrl import envs
from jaxrl.envs import check
from jaxrl.envs.trajectory import rollout  # noqa: F401  jaxrl.rollout
from jaxrl.host import config as configs
from jaxrl.host import export as exporting
from jaxrl.host import loop, pictures, playing, policies, program, sharding
from jaxrl.host.export import contract, loaded
from jaxrl.host.sweeping import members
from jaxrl.host.sweeping import sweep as sweeps
from jaxrl.plot import training as plot_training  # noqa: F401  jaxrl.plot_training
from jaxrl.types import Environment


def configure(experiment: str | Path | Mapping | ConfigDict, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The whole config of an experiment, checked.

    Args:
        experiment: an experiment file ('experiments/ant.py'), a run's config.json, or nested values such as
            {'env': {'name': 'ant'}}.
        overrides: values by dotted key, {'ppo.learning_rate': 1e-3}.

    Raises:
        ConfigError: a key or a value is not valid; the message has the cure.
    """
    partial = configs.load(str(experiment)) if isinstance(experiment, str | Path) else experiment
    return configs.resolve(partial, overrides or {})


def train(
    experiment: str | Path | Mapping | ConfigDict, workdir: str | Path, overrides: Mapping[str, Any] | None = None
) -> loop.Run:
    """Trains as `python -m jaxrl.train` does; called again with the same workdir, it goes on where it stopped.

    Args:
        experiment, overrides: as `configure` takes them.
        workdir: the run folder, for metrics, checkpoints and plots.

    Returns:
        The run: `.history` has the rows of metrics, `.state` the trained state.

    Raises:
        ConfigError: what is asked for cannot be done.
        BrokenRunError: a metric of the run is not finite, or an environment allowed no action.
    """
    return loop.train(configure(experiment, overrides), Path(workdir), sys.argv)


def iterate(
    experiment: str | Path | Mapping | ConfigDict, workdir: str | Path, overrides: Mapping[str, Any] | None = None
) -> Iterator[dict]:
    """Trains as `train` does, a row of metrics at a time: to look at, to draw, to stop by.

    for row in jaxrl.iterate("experiments/ant.py", "runs/ant"):
        if row.get("eval/episode_return", 0) > 5000:
            break

    Leaving the loop finishes the epoch under way, saves and closes; called again with the same workdir, it goes on
    there. So does `train`. A loop that is left while something else holds the iterator saves at its `close()`. A signal
    saves, and ends the loop.

    Args:
        experiment, workdir, overrides: as `train` takes them.

    Raises:
        ConfigError, BrokenRunError: as `train`, what is wrong with the config at once, the rest by the first row.
    """
    return loop.iterate(configure(experiment, overrides), Path(workdir), sys.argv)


def sweep(
    experiment: str | Path | Mapping | ConfigDict,
    workdir: str | Path,
    sweep: Mapping[str, Any] | str = "",
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
    samples: int = 0,
    sweep_seed: int = 0,
    engine: str = "local",
    options: Mapping[str, Any] | None = None,
    pbt: int | Mapping[str, Any] | None = None,
) -> sweeps.Sweep:
    """Trains many runs as `python -m jaxrl.sweep` does; called again with the same workdir, it goes on.

    Args:
        experiment, overrides: as `configure` takes them.
        workdir: the sweep's folder, with a run folder of each member in it.
        sweep: values by dotted key, {'ppo.learning_rate': [1e-4, 1e-3]} or 'loguniform(1e-5,1e-2)'; or the text of
            --sweep.
        seeds: of each setting: how many from `seed` on, or which; each member of a population has its own by default.
        samples, sweep_seed: of what is drawn at random: how often, and from which seed.
        engine: where they are trained, 'local' or 'ray'.
        options: of the engine, by the names of its flags: {'cpus_per_trial': 4.0}.
        pbt: makes the members a population: env steps between exploits, or {'interval': 100_000, 'fraction': 0.2,
            'perturb': (0.8, 1.2), 'resample': 0.25}.

    Returns:
        What came of it: `.table`, `.to_pandas()`, `.settings`, `.best`, `.folders`.

    Raises:
        ConfigError: what is asked for cannot be done.
    """
    axes = members.parse(sweep) if isinstance(sweep, str) else {k: members.axis(k, v) for k, v in sweep.items()}
    partial = configs.load(str(experiment)) if isinstance(experiment, str | Path) else experiment
    request = members.Request(partial, overrides or {}, axes, seeds, samples, sweep_seed, pbt is not None)
    return sweeps.conduct(request, Path(workdir), sys.argv, engine, options, pbt)


def load_policy(run: str | Path | loop.Run, checkpoint: str | int | Path = "latest") -> policies.Policy:
    """What a run has learned, as a function of observations.

    policy = jaxrl.load_policy("runs/ant", "best")
    action = policy(obs)

    Args:
        run: the run folder, what `train` returned, or the folder that `export` wrote, such as "runs/ant/export".
        checkpoint: 'latest', 'best', the env steps of a checkpoint, or the path of its folder; an export has but one.

    Returns:
        The policy; jaxrl/host/policies.py says how one with memory is called, and how one is used inside jit.

    Raises:
        ConfigError: there is no such run or checkpoint, it is damaged, or the environment cannot be made.
    """
    run = _folder(run)
    return loaded.load(run) if contract.is_export(run) else policies.load(run, checkpoint)


def export(
    run: str | Path | loop.Run,
    checkpoint: str | int | Path = "latest",
    out: str | Path | None = None,
    force: bool = False,
) -> exporting.Written:
    """Writes what a run has learned for programs without jaxrl, as `python -m jaxrl.export` does.

    Args:
        run, checkpoint: as `load_policy` takes them.
        out: the folder to write; `export` in the run's by default.
        force: replaces what was exported to it before.

    Returns:
        What was written: `.folder`, and `.contract` as contract.json has it; its text is a summary.

    Raises:
        ConfigError: as `load_policy`; the folder holds something; what would be written is not what the policy says.
    """
    return exporting.export(_folder(run), checkpoint, out, force)


def play(
    run: str | Path | loop.Run,
    checkpoint: str | int | Path = "latest",
    episodes: int = 128,
    sampled: bool = False,
    seed: int = 0,
) -> playing.Played:
    """Full episodes of what a run has learned, as `python -m jaxrl.play` plays them.

    Args:
        run, checkpoint: as `load_policy` takes them.
        episodes: each in an environment of its own.
        sampled: actions are drawn from the policy; else they are its mode.
        seed: of the initial states, and of what is drawn.

    Returns:
        What was played: `.returns` and `.lengths`, [episodes, agents] each.

    Raises:
        ConfigError: as `load_policy`.
    """
    return playing.play(_folder(run), checkpoint, episodes, sampled, seed)


def view(
    run: str | Path | loop.Run,
    checkpoint: str | int | Path = "latest",
    sampled: bool = False,
    seed: int = 0,
    height: int = 420,
) -> pictures.Page:
    """One episode in 3D, to be watched in a notebook; environments of Brax and Playground.

    Args:
        run, checkpoint, sampled, seed: as `play` takes them.
        height: pixels.

    Returns:
        A page that needs no network, which a notebook shows where it is the last line of a cell; `.html` is its text.

    Raises:
        ConfigError: as `load_policy`; nothing of this suite can be drawn.
    """
    return pictures.show(_folder(run), checkpoint, sampled, seed, height)


def build(config: ConfigDict) -> program.Source:
    """The pure functions of a run, to be jitted, mapped and stepped by hand; config: from `configure`.

    Under `jax.vmap` they are, on a CPU, for each member bit for bit what they are alone; elsewhere up to rounding.
    """
    mesh = sharding.mesh()
    source = program.make(config, mesh)
    return program.in_turn(source) if sharding.is_cpu(mesh) else source


def make_env(name: str, num_envs: int, **options) -> Environment:
    """N environments that restart themselves.

    Args:
        name: 'suite/name', such as 'brax/ant'.
        num_envs: N.
        **options: the other keys of the config's group `env`, such as backend='spring'.

    Raises:
        ConfigError: there is no such suite or environment, or an option is not valid.
    """
    suite, _, rest = name.partition("/")
    overrides = {"env.suite": suite, "env.name": rest} | {f"env.{key}": value for key, value in options.items()}
    return envs.make(configs.resolve({}, overrides).env, num_envs)


def check_env(env: Environment, num_steps: int = 1000, seed: int = 0) -> check.Report:
    """Plays random actions and compares what is seen with the contract of jaxrl/types.py.

    Args:
        env: N environments, such as make_env('brax/ant', 8).
        num_steps: that are played.
        seed: of what is random.

    Returns:
        The report, whose text has the costs: of compiling, of a step.

    Raises:
        ContractError: the contract is broken; each line names the field, what was seen and what was expected.
    """
    report = check.check(env, num_steps, seed)
    if report.faults:
        raise check.ContractError("\n".join(map(str, report.faults)))
    return report


def _folder(run):
    return run.workdir if isinstance(run, loop.Run) else run
