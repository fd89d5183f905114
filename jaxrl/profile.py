"""Shows where the time of a run's iterations goes: python -m jaxrl.profile --config=experiments/ant.py

python -m jaxrl.profile --config=experiments/ant.py --config.ppo.num_envs=1024     any key of the config
python -m jaxrl.profile --config=experiments/ant.py --trace=runs/trace             and a trace of three iterations
python -m jaxrl.profile --config=experiments/ant.py --json                         the numbers, as one line of JSON

Environments, policy, rollout, update and the whole iteration are compiled and timed one by one, on one device. Beside
the times stand what each computes: operations of matrix products, which are counted exactly; elements computed by all
else; the bytes that would be moved if the compiler fused nothing. A trace is looked at with `xprof --logdir=FOLDER`
(pip install xprof), or at https://ui.perfetto.dev.
"""

import json
import sys
from pathlib import Path

from jaxrl.doors import refuse
from jaxrl.host import config as configs
from jaxrl.types import ConfigError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit status: 0 done, 2 bad input."""
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(argv):
        print(__doc__, end="")
        return 0
    try:
        _run(argv)
    except ConfigError as error:
        return refuse(error)
    return 0


def _run(argv) -> None:
    traces = [word.partition("=")[2] for word in argv if word.partition("=")[0] == "--trace"]
    if not all(traces):
        raise ConfigError("--trace needs a folder; write --trace=FOLDER.")
    rest = [word for word in argv if word != "--json" and word.partition("=")[0] != "--trace"]
    arguments = configs.parse_command_line(rest)
    config = configs.resolve(configs.load(arguments.config), arguments.overrides)
    from jaxrl.host import profiling, program  # after the config is known to be good: JAX takes seconds to load

    program.use_compilation_cache()
    profile = profiling.profile(config, Path(traces[-1]) if traces else None)
    print(json.dumps(_plain(profile)) if "--json" in argv else profiling.table(profile))


def _plain(profile) -> dict:
    stages = [stage._asdict() | {"cost": stage.cost and stage.cost._asdict()} for stage in profile.stages]
    return profile._asdict() | {"stages": stages}


if __name__ == "__main__":
    sys.exit(main())
