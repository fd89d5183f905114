"""Plays what a run has learned: python -m jaxrl.play runs/ant --checkpoint=best

python -m jaxrl.play runs/ant                               128 episodes of the latest checkpoint
python -m jaxrl.play runs/ant --checkpoint=1000000          of the one after so many env steps
python -m jaxrl.play runs/ant --sampled --episodes=1000     actions drawn from the policy, not its mode
python -m jaxrl.play runs/ant --html=ant.html               and a page with one episode in 3D, which needs no network
python -m jaxrl.play runs/ant --video=ant.gif               and one episode as moving pictures, .gif or .mp4
python -m jaxrl.play runs/ant --json                        all that was measured, every return too, as JSON

What is played is one full episode in each of N environments, as the run's evaluations play them. IQM is the mean of the
middle half of the returns, and the interval behind it the 95 % one of a bootstrap over the episodes.
"""

import argparse
import json
import sys
from pathlib import Path

from jaxrl import find
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 played, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        _run(_parse(argv))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ConfigError(f"{message}; --help lists the flags.")


def _parse(argv):
    parser = _Parser(
        "jaxrl.play", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", help="the run folder, the --workdir of its training")
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best, env steps, or the path of its folder (default: latest)"
    )
    parser.add_argument("--episodes", type=int, default=128, help="that are played (default: 128)")
    parser.add_argument("--sampled", action="store_true", help="draw the actions; else they are the policy's mode")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--html", type=Path, help="a page to write, with one episode in 3D")
    parser.add_argument("--video", type=Path, help="a file to write, .gif or .mp4, with one episode")
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(f"{rest[0]!r} is not understood; {find.nearest(rest[0].partition('=')[0], flags)}.")
    return arguments


def _run(arguments) -> None:
    from jaxrl.host import playing, program  # JAX takes seconds to load, and a mistyped flag should not

    program.use_compilation_cache()
    _draw(arguments)
    played = playing.play(arguments.run, arguments.checkpoint, arguments.episodes, arguments.sampled, arguments.seed)
    summary = playing.describe(played, arguments.seed)
    print(_json(arguments, played, summary) if arguments.json else _text(arguments, played, summary))


def _draw(arguments) -> None:
    """Writes the pictures that are asked for, before all else: what cannot be had should be said at once."""
    if not (arguments.html or arguments.video):
        return
    from jaxrl.host import pictures

    pictures.write(
        arguments.run, arguments.checkpoint, arguments.sampled, arguments.seed, arguments.html, arguments.video
    )


def _text(arguments, played, summary) -> str:
    """Three lines for people."""
    episodes, agents = played.returns.shape
    how = "sampled" if arguments.sampled else "deterministic"
    lines = [
        f"{played.config.env.name} ({played.config.env.suite}) after {played.env_steps:,} env steps: {episodes:,} "
        f"{how} episodes{f' of {agents} agents, whose returns these are' if agents > 1 else ''}",
        "return  mean {mean:.6g} ± {std:.4g} std, IQM {iqm:.6g} [{iqm_low:.6g}, {iqm_high:.6g}], "
        "min {min:.6g}, max {max:.6g}".format(**summary),
        "length  mean {length_mean:.6g}, min {length_min:,}, max {length_max:,}".format(**summary),
    ]
    if summary["cut_off"]:
        lines.append(f"{summary['cut_off']} were cut off after {played.config.eval.max_steps:,} steps")
    return "\n".join(lines)


def _json(arguments, played, summary) -> str:
    """One line for programs; returns and lengths are lists of N, or of N lists of A."""
    lists = {"returns": played.returns, "lengths": played.lengths}
    one_agent = played.returns.shape[1] == 1
    return json.dumps(
        {
            "run": arguments.run,
            "env": f"{played.config.env.suite}/{played.config.env.name}",
            "env_steps": played.env_steps,
            "episodes": arguments.episodes,
            "deterministic": not arguments.sampled,
            "seed": arguments.seed,
            **summary,
            **{name: (values[:, 0] if one_agent else values).tolist() for name, values in lists.items()},
        }
    )


if __name__ == "__main__":
    sys.exit(main())
