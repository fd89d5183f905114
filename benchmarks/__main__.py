"""Measures jaxrl beside its peers: python -m benchmarks NAME, from the root of a checkout.

Prints tables, writes them with machine and versions to a JSON file, and appends the ratios to benchmarks/history.jsonl.
"""

import argparse
import datetime
import importlib
import json
import pathlib
import shlex
import sys

from benchmarks import report

NAMES = (
    "speed",
    "features",
    "start",
    "growth",
    "returns",
    "host",
    "memory",
    "restart",
    "bridge",
    "sweep",
    "processes",
    "model",
    "forms",
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 done, 1 something could not be measured, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    if arguments.name == "draw":
        return _draw(arguments)
    if arguments.name == "history":
        print(report.text(report.Result([report.history(report.recall(arguments.history, arguments.benchmark))])))
        return 0
    stamped = report.stamp(arguments.name, shlex.join(["python", "-m", "benchmarks", *argv]))
    try:
        result = _module(arguments.name).run(arguments)
    except Exception as why:
        from jaxrl.types import ConfigError  # not before: it brings JAX, and `model` says first what that is to find

        if isinstance(why, report.Refused | ConfigError):
            return _refuse(str(why))
        raise
    print(f"\n{report.text(result)}", flush=True)
    finished = report.as_json(stamped, result)
    when = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = arguments.json or report.RESULTS / f"{arguments.name}-{when}.json"
    report.write(finished, path)
    report.say(f"\nwritten to {path}")
    if not arguments.no_history:
        report.remember(finished, arguments.history)
    if arguments.png:
        _picture(finished, arguments.png)
    return 1 if result.failed else 0


def _draw(arguments) -> int:
    path = arguments.json or _newest()
    if path is None or not path.exists():
        missing = f"{path} does not exist" if path else f"nothing has been measured yet in {report.RESULTS}"
        return _refuse(f"{missing}; run a benchmark first, such as python -m benchmarks speed")
    try:
        finished = json.loads(path.read_text())
        drawn = _picture(finished, arguments.png or path.with_suffix(".png"))
    except (ValueError, KeyError):
        return _refuse(f"{path} was not written by python -m benchmarks; name one of {report.RESULTS}")
    return 0 if drawn else _refuse(f"{path} holds nothing that could be drawn; run {finished['benchmark']} again")


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def _picture(finished: dict, path: pathlib.Path) -> bool:
    from benchmarks import drawing  # matplotlib takes a second to load

    drawn = drawing.draw(finished, path)
    report.say(f"drawn to {path}" if drawn else "nothing was measured that could be drawn")
    return drawn


def _newest() -> pathlib.Path | None:
    return max(report.RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)


def _module(name: str):
    return importlib.import_module(f"benchmarks.{name}")


def _parser() -> argparse.ArgumentParser:
    form = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter)
    benchmarks = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    usages = []
    for name in NAMES:
        module = _module(name)
        summary, _, rest = module.__doc__.partition("\n")
        each = benchmarks.add_parser(name, help=summary, description=module.__doc__, formatter_class=_Both)
        module.arguments(each)
        each.add_argument("--json", type=pathlib.Path, help="the file to write, instead of one in runs/benchmarks")
        each.add_argument("--png", type=pathlib.Path, help="draw it too")
        each.add_argument("--no_history", action="store_true", help="a trial: leave the history as it is")
        each.add_argument("--history", type=pathlib.Path, default=report.HISTORY, help="the file to append to")
        usages.append(each.format_usage().replace("usage: ", ""))
    draw = benchmarks.add_parser("draw", help="Draws the newest result, or a given one.", formatter_class=form)
    draw.add_argument("json", type=pathlib.Path, nargs="?", help="a file of a benchmark")
    draw.add_argument("--png", type=pathlib.Path, help="the picture, instead of one beside the file")
    past = benchmarks.add_parser("history", help="Shows how the ratios came along.", formatter_class=form)
    past.add_argument("benchmark", nargs="?", default="", choices=["", *NAMES], help="only this one")
    past.add_argument("--history", type=pathlib.Path, default=report.HISTORY, help="the file to read")
    parser.description = __doc__
    parser.epilog = "\n".join(usages)
    return parser


class _Both(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Docstrings as they are written, and defaults."""


if __name__ == "__main__":
    sys.exit(main())
