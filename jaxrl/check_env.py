"""Checks an environment against jaxrl's contract: python -m jaxrl.check_env brax/ant

python -m jaxrl.check_env                                   the suites there are
python -m jaxrl.check_env brax                              the environments of one
python -m jaxrl.check_env brax/ant --config.env.backend=mjx --steps=200 --num_envs=16
python -m jaxrl.check_env your_package.your_suite/name      your own
"""

import sys

from jaxrl import find
from jaxrl.doors import Parser, refuse
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 no faults, 1 faults, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser("check_env", __doc__)
    parser.add_argument("name", nargs="?", default="", help="suite/name; the suite alone lists its environments")
    parser.add_argument("--steps", type=int, default=1000, help="random steps that are played (default: 1000)")
    parser.add_argument("--num_envs", type=int, default=8, help="environments at once (default: 8)")
    try:
        return _run(*parser.parse_known_args(argv))
    except ConfigError as error:
        return refuse(error)


def _run(arguments, rest) -> int:
    suite, _, name = arguments.name.partition("/")
    if not suite:
        print("\n".join(find.names("envs")))
        return 0
    if not name:
        print("\n".join(f"{suite}/{each}" for each in find.find("envs", suite).names()))
        return 0
    for number, key in ((arguments.steps, "steps"), (arguments.num_envs, "num_envs")):
        if number < 1:
            raise ConfigError(f"--{key}={number} is out of range; choose 1 or more.")
    from jaxrl import library
    from jaxrl.envs import check

    env = library.make_env(arguments.name, arguments.num_envs, **_options(rest))
    print(f"{arguments.name}: obs {_spec(env.spec.obs)}, action {env.spec.action}")
    report = check.check(env, arguments.steps)
    print(report)
    return 1 if report.faults else 0


def _options(rest: list[str]) -> dict[str, str]:
    """The other keys of the group `env`, from '--config.env.backend=mjx'."""
    options = {}
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not key.startswith("--config.env.") or not equals:
            raise ConfigError(f"{argument!r} is not understood; options are --config.env.KEY=VALUE.")
        options[key.removeprefix("--config.env.")] = value
    return options


def _spec(obs) -> str:
    """'float32[27]', or a dict of such."""
    if isinstance(obs, dict):
        return "{" + ", ".join(f"{name}: {_spec(part)}" for name, part in obs.items()) + "}"
    return f"{obs.dtype}[{', '.join(map(str, obs.shape))}]"


if __name__ == "__main__":
    sys.exit(main())
