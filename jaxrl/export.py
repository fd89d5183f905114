"""Exports what a run has learned: python -m jaxrl.export runs/ant --checkpoint=best

python -m jaxrl.export runs/ant                             the latest checkpoint, to runs/ant/export
python -m jaxrl.export runs/ant --checkpoint=1000000        the one after so many env steps
python -m jaxrl.export runs/ant --out=robot/policy          to another folder
python -m jaxrl.export runs/ant --force                     in the place of what was exported there before

The folder gets policy.onnx, policy.stablehlo (of jax.export), policy.safetensors (by torch's names) and contract.json,
which says what goes in and what comes out. Normaliser, masks, squashing and clipping are inside, memory is an input and
an output. Both programs are compared with the policy in JAX on 1,000 random observations and some hundreds recorded in
the run's environment; where they differ by more than 1e-5, nothing is written.
"""

import sys
from pathlib import Path

from jaxrl.doors import Parser, refuse
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 written, 2 bad input or a check that failed."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        _run(_parse(argv))
    except ConfigError as error:
        return refuse(error)
    return 0


def _parse(argv):
    parser = Parser("export", __doc__)
    parser.add_argument("run", help="the run folder, the --workdir of its training")
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best, env steps, or the path of its folder (default: latest)"
    )
    parser.add_argument("--out", type=Path, help="the folder to write (default: export in the run folder)")
    parser.add_argument("--force", action="store_true", help="replace what was exported to it before")
    return parser.read(argv)


def _run(arguments) -> None:
    from jaxrl.host import export, program  # JAX takes seconds to load, and a mistyped flag should not

    program.use_compilation_cache()
    print(export.export(arguments.run, arguments.checkpoint, arguments.out, arguments.force))


if __name__ == "__main__":
    sys.exit(main())
