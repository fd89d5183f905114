"""Makes an experiment of an rl_games yaml: python -m jaxrl.convert ppo_ant.yaml --out experiments/my_ant.py

Of rl_games 1.6.5, IsaacGymEnvs and Isaac Lab. Every key is taken over, or named in the report with what to do.

python -m jaxrl.convert ppo_ant.yaml --out my_ant.py            one file; the report is printed
python -m jaxrl.convert configs/ --out experiments/theirs/      all of a folder; a table is printed
python -m jaxrl.convert ppo_ant.yaml --out my_ant.py --checkpoint Ant.pth --workdir runs/my_ant
                                                                also its policy, as a run that plays and goes on
"""

import sys
from pathlib import Path

from jaxrl.doors import Parser, refuse
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 done, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser("convert", __doc__)
    parser.add_argument("yaml", nargs="?", default="", help="a yaml of rl_games, or a folder of them")
    parser.add_argument("--out", default="", help="the experiment that is written, FILE.py, or a folder for a folder")
    parser.add_argument("--checkpoint", default="", help="a .pth of rl_games, which becomes the run folder --workdir")
    parser.add_argument("--workdir", default="", help="the run folder that --checkpoint becomes")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    try:
        return _run(parser.read(argv))
    except ConfigError as error:
        return refuse(error)


def _run(arguments) -> int:
    file, out = Path(arguments.yaml), Path(arguments.out)
    if not arguments.yaml or not arguments.out:
        missing = "--out=EXPERIMENT.py" if arguments.yaml else "the yaml"
        raise ConfigError(f"{missing} is missing; write python -m jaxrl.convert FILE.yaml --out EXPERIMENT.py")
    if not file.exists():
        raise ConfigError(f"{file} is not there; give a yaml of rl_games, or a folder of them.")
    if bool(arguments.checkpoint) != bool(arguments.workdir):
        missing = "--workdir=RUN" if arguments.checkpoint else "--checkpoint=FILE.pth"
        raise ConfigError(f"{missing} is missing; --checkpoint and --workdir go together")
    if file.is_dir():
        if arguments.checkpoint:
            raise ConfigError(
                f"--checkpoint goes with one yaml, and {file} is a folder; give the checkpoint's own yaml"
            )
        return _convert_folder(file, out, arguments.force)
    if out.suffix != ".py":
        raise ConfigError(f"--out={out} is no Python file; write --out={out / (file.stem + '.py')}")
    if arguments.checkpoint:
        return _move(file, out, arguments)
    print(_convert(file, out, arguments.force).report(), end="")
    print(f"\nWritten: {out}. To train it: {_command(out)}")
    return 0


def _move(file, out, arguments):
    """The experiment, and the run that the checkpoint becomes."""
    from jaxrl.host import rl_games
    from jaxrl.host.rl_games import moving

    checkpoint, workdir = Path(arguments.checkpoint), Path(arguments.workdir)
    _check_new(out, arguments.force)
    moving.check_new(workdir)
    conversion, config, agent = rl_games.move(file, checkpoint)
    _write(conversion, out)
    moving.write(agent, config, workdir, sys.argv)
    print(conversion.report())
    for title, lines in {f"Moved from {checkpoint}": agent.moved, "Left behind": agent.left}.items():
        print(f"{title}:\n" + "".join(f"  {line}\n" for line in lines) if lines else "", end="")
    print(f"\nWritten: {out} and {workdir}. To watch it: python -m jaxrl.play {workdir}")
    print(f"To go on training: {_command(out)} --workdir={workdir}")
    return 0


def _convert(file, out, force):
    from jaxrl.host import rl_games  # after the command line is known to be good: JAX takes seconds to load

    _check_new(out, force)
    conversion = rl_games.convert(file)
    _write(conversion, out)
    return conversion


def _check_new(out, force):
    if out.exists() and not force:
        raise ConfigError(f"--out={out} is there already; --force writes over it.")


def _write(conversion, out):
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(conversion.experiment(_command(out)), encoding="utf-8")
    except OSError as mistake:
        raise ConfigError(f"--out={out} cannot be written ({mistake}); choose another.") from None


def _command(out):
    return f"python -m jaxrl.train --config={out}"


def _convert_folder(folder, out, force):
    """A row for each yaml: converted, with what is left to do, or why it is not."""
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])
    if not files:
        raise ConfigError(f"{folder} has no yaml; give a folder that has.")
    width = max(len(str(file.relative_to(folder))) for file in files)
    converted = 0
    for file in files:
        name = file.relative_to(folder)
        try:
            conversion = _convert(file, out / name.with_suffix(".py"), force)
            converted += 1
            said = f"{len(conversion.lost)} to do" if conversion.lost else "nothing to do"
            print(f"{str(name):<{width}}  converted  {said}")
        except ConfigError as error:
            print(f"{str(name):<{width}}  not        {error}")
    print(f"{converted} of {len(files)} converted; what is to do stands at the top of each experiment.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
