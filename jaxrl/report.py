"""Writes a page about a run: python -m jaxrl.report runs/ant

python -m jaxrl.report runs/ant                               runs/ant/report.html: config, curves, 128 episodes, 3D
python -m jaxrl.report runs/ant --out=ant.html --checkpoint=best
python -m jaxrl.report runs/ant --episodes=0 --no-viewer      at once: nothing is played
python -m jaxrl.report runs/ant --video                       and one episode as moving pictures
python -m jaxrl.report runs/ant --upload                      and sent to the W&B run of its training

The page is one file, and needs no network.
"""

import sys
from pathlib import Path

from jaxrl.doors import Parser, refuse
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 written, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        _run(_parse(argv))
    except ConfigError as error:
        return refuse(error)
    return 0


def _parse(argv):
    parser = Parser("report", __doc__)
    parser.add_argument("run", type=Path, help="the run folder, the --workdir of its training")
    parser.add_argument("--out", type=Path, help="the page to write (default: RUN/report.html)")
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best, env steps, or the path of its folder (default: latest)"
    )
    parser.add_argument(
        "--episodes", type=int, default=128, help="that are played; 0: the run's last evaluation (default: 128)"
    )
    parser.add_argument("--no-viewer", action="store_true", help="leave out the episode in 3D")
    parser.add_argument("--video", action="store_true", help="with one episode as moving pictures")
    parser.add_argument("--seed", type=int, default=0, help="of what is played (default: 0)")
    parser.add_argument("--upload", action="store_true", help="send the page to the W&B run that the training began")
    return parser.read(argv)


def _run(arguments) -> None:
    from jaxrl.host import policies, program, report  # JAX takes seconds to load, and a mistyped flag should not

    program.use_compilation_cache()
    out = arguments.out or arguments.run / "report.html"
    config = policies.config_of(arguments.run)
    viewer = not arguments.no_viewer
    report.write(arguments.run, out, arguments.checkpoint, arguments.episodes, viewer, arguments.video, arguments.seed)
    print(out)
    if arguments.upload:
        from jaxrl.host import history
        from jaxrl.host.writers import wandb

        wandb.upload(arguments.run, config, history.read(arguments.run)[-1]["env_steps"], {"report": out})


if __name__ == "__main__":
    sys.exit(main())
