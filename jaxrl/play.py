"""Plays what a run has learned: python -m jaxrl.play runs/ant --checkpoint=best

python -m jaxrl.play runs/ant                               128 episodes of the latest checkpoint
python -m jaxrl.play runs/ant --checkpoint=1000000          of the one after so many env steps
python -m jaxrl.play runs/ant --sampled --episodes=1000     actions drawn from the policy, not its mode
python -m jaxrl.play runs/ant --html=ant.html               and a page with one episode in 3D, which needs no network
python -m jaxrl.play runs/ant --video=ant.gif               and one episode as moving pictures, .gif or .mp4
python -m jaxrl.play runs/breakout --text                   and one episode as text, of what shows a grid
python -m jaxrl.play runs/ant --watch                       each checkpoint as it appears, while the run trains
python -m jaxrl.play runs/ant --json                        all that was measured, every return too, as JSON

What is played is one full episode in each of N environments, as the run's evaluations play them. IQM is the mean of the
middle half of the returns, and the interval behind it the 95 % one of a bootstrap over the episodes.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jaxrl.doors import Parser, refuse
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None, wait: Callable[[float], None] = time.sleep) -> int:
    """Runs the command line; the exit status: 0 played, 2 bad input, 130 stopped by Ctrl-C before it had played.

    Args:
        argv: without the program's name; None: the process's own.
        wait: takes seconds, for what is shown in time and between looks for a new checkpoint.
    """
    argv = sys.argv[1:] if argv is None else argv
    watches = False
    try:
        arguments = _parse(argv)
        watches = arguments.watch
        _run(arguments, wait)
    except ConfigError as error:
        return refuse(error)
    except KeyboardInterrupt:  # which is how one leaves --watch
        return 0 if watches else 130
    return 0


def _parse(argv):
    parser = Parser("play", __doc__)
    parser.add_argument("run", help="the run folder, the --workdir of its training")
    parser.add_argument(
        "--checkpoint", default="latest", help="latest, best, env steps, or the path of its folder (default: latest)"
    )
    parser.add_argument("--episodes", type=int, default=128, help="that are played (default: 128)")
    parser.add_argument("--sampled", action="store_true", help="draw the actions; else they are the policy's mode")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--html", type=Path, help="a page to write, with one episode in 3D")
    parser.add_argument("--video", type=Path, help="a file to write, .gif or .mp4, with one episode")
    parser.add_argument("--text", action="store_true", help="draw one episode as text, of what shows a grid")
    parser.add_argument("--fps", type=float, default=10.0, help="frames a second of text and grids (default: 10)")
    parser.add_argument("--watch", action="store_true", help="play each checkpoint as it appears, until the run ends")
    parser.add_argument("--poll", type=float, default=2.0, help="seconds between looks for a new one (default: 2)")
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    arguments = parser.read(argv)
    for flag, value in (("--fps", arguments.fps), ("--poll", arguments.poll)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{flag}={value:g} is out of range; choose a number above 0.")
    if arguments.watch and arguments.checkpoint != "latest":
        raise ConfigError(f"--watch plays each checkpoint; leave out --checkpoint={arguments.checkpoint}.")
    return arguments


def _run(arguments, wait) -> None:
    from jaxrl.host import playing, policies, program  # JAX takes seconds to load, and a mistyped flag should not

    program.use_compilation_cache()
    playing.check(arguments.episodes, arguments.seed)
    if arguments.watch:
        _watch(arguments, wait)
        return
    found = policies.locate(arguments.run, arguments.checkpoint)
    artist = _artist(arguments, found.config, wait)
    if artist:  # before all else: what cannot be had should be said at once
        artist.draw(found, policies.restore(found, artist.algorithm), arguments.seed)
    player = playing.Player(found.config, arguments.episodes, arguments.sampled)
    played = player.play(found, policies.restore(found, player.algorithm), arguments.seed)
    summary = playing.describe(played, arguments.seed)
    print(_json(arguments, played, summary) if arguments.json else _text(arguments, played, summary))


def _watch(arguments, wait) -> None:
    """Plays each checkpoint, a row for each, and draws it anew."""
    from jaxrl.host import playing, policies, watching

    config = policies.config_of(arguments.run)
    artist = _artist(arguments, config, wait)
    player = playing.Player(config, arguments.episodes, arguments.sampled)
    if not arguments.json:
        print(_HEAD, flush=True)
    warn = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    for found, agent in watching.follow(arguments.run, player.algorithm, lambda: wait(arguments.poll), warn):
        played = player.play(found, agent, arguments.seed)
        summary = playing.describe(played, arguments.seed)
        print(_json(arguments, played, summary) if arguments.json else _row(found.env_steps, summary), flush=True)
        if artist:
            artist.draw(found, agent, arguments.seed)


def _artist(arguments, config, wait):
    """Who draws what is asked for; None if nothing is."""
    if not (arguments.html or arguments.video or arguments.text):
        return None
    from jaxrl.host import pictures, screen

    text = None
    if arguments.text:
        text = screen.Screen(arguments.fps, sys.stderr if arguments.json else None, wait)
    wish = pictures.Wish(arguments.html, arguments.video, text, arguments.fps)
    return pictures.Artist(config, wish, arguments.sampled)


_HEAD = f"{'env steps':>15}  {'return: mean ± std':>22}  {'IQM [95 % interval]':>34}  {'length':>10}"


def _row(env_steps, summary) -> str:
    """One checkpoint on one line, below _HEAD."""
    spread = "{mean:.6g} ± {std:.4g}".format(**summary)
    middle = "{iqm:.6g} [{iqm_low:.6g}, {iqm_high:.6g}]".format(**summary)
    return f"{env_steps:>15,}  {spread:>22}  {middle:>34}  {summary['length_mean']:>10.6g}"


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
