"""The config of a run: defaults, an experiment file and the command line, merged and checked.

What is wrong raises a ConfigError of one line that names the key, the value and the cure.
"""

import contextlib
import difflib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxrl.host import keys
from jaxrl.host.keys import error
from jaxrl.types import ConfigError

LIMITS = {
    "seed": (0, 2**32 - 1),  # jax.random.key drops the higher bits silently
    "seeds": (1, 10_000),
    "total_env_steps": (1, 10**15),
    "epoch_iterations": (0, 10**6),
}

EXPERIMENTS = Path("experiments")
RUNS = Path("runs")

# What may differ when a run goes on from its checkpoint; anything else would make it another run.
MAY_CHANGE = ("total_env_steps", "writers", "eval", "checkpoint", "stop", "guard", "tracking")


def default_config() -> ConfigDict:
    """The keys that belong to no group."""
    config = ConfigDict()
    config.seed = 0  # all randomness of the run follows from it
    config.seeds = 1  # runs in one program, of seed, seed + 1, ...; more than 1 makes a sweep of it (jaxrl.sweep)
    config.total_env_steps = 1_000_000  # steps of all environments together after which the run is done
    config.algorithm = "ppo"  # a file of jaxrl/algorithms, or a dotted import path
    config.epoch_iterations = 0  # iterations in one compiled call; 0 = a hundredth of the run, at most 16
    config.writers = ("console", "jsonl", "csv", "tensorboard")  # where metrics go: files of jaxrl/host/writers
    return config


def load(path_and_arg: str) -> ConfigDict:
    """What an experiment file sets; `resolve` checks it.

    Args:
        path_and_arg: 'PATH.py[:ARG]', a file with `get_config()` or `get_config(arg)`; its name alone if it is in
            experiments/; or 'PATH.json', the config.json of a run, from which nothing is executed.

    Raises:
        ConfigError: there is no such file, or it holds no config.
    """
    name, _, arg = path_and_arg.partition(":")
    path = _locate(name)
    if path.suffix == ".json" and arg:
        raise error(f"--config={path_and_arg}: a JSON file takes no argument; write --config={path}")
    return _read_json(path) if path.suffix == ".json" else _call_get_config(path, [arg] if arg else [])


def code(path_and_arg: str) -> tuple[Path, ...]:
    """The files that `load` executes."""
    path = _locate(path_and_arg.partition(":")[0])
    return () if path.suffix == ".json" else (path,)


def resolve(partial: ConfigDict | Mapping, overrides: Mapping | Iterable[tuple[str, Any]] = ()) -> ConfigDict:
    """The whole config: defaults, then what `partial` sets, then what `overrides` set; each value checked.

    Args:
        partial: what an experiment sets, nested.
        overrides: (dotted key, value); a text is read as the command line means it.

    Returns:
        A locked ConfigDict with every key.

    Raises:
        ConfigError: a key does not exist, or a value is of the wrong type, out of range or no choice.
    """
    given, typed = dict(keys.leaves(partial)), dict(overrides)
    table = keys.table(*_decided_first(typed, given))
    values = {name: key.default for name, key in table.items()}
    for name, value in given.items():
        if isinstance(value, Mapping | ConfigDict) and keys.in_group(table, name):
            continue  # an empty group sets nothing
        values[name] = keys.check(name, value, keys.lookup(table, name, value))
    for name, value in typed.items():
        key = keys.lookup(table, name, value)
        values[name] = keys.check(name, keys.parse(value, key) if isinstance(value, str) else value, key)
    return _nested(values).lock()


def to_json(config: ConfigDict) -> str:
    """A resolved config as JSON, nested, tuples as lists."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The resolved config that `to_json` wrote; keys that are newer than it get their defaults.

    Raises:
        ConfigError: it is no JSON, or it holds what `resolve` refuses.
    """
    try:
        partial = ConfigDict(_parse_json(text))
    except (ValueError, RecursionError) as mistake:
        raise error(f"the config cannot be read ({mistake}); give the config.json of a run") from None
    return resolve(partial)


def difference(old: ConfigDict, new: ConfigDict) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) wherever two configs differ; None where one has no such key."""
    before, after = dict(keys.leaves(old)), dict(keys.leaves(new))
    names = sorted(before.keys() | after.keys(), key=lambda name: ("." in name, name))  # `algorithm` before `ppo.gamma`
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def check_resume(saved: ConfigDict, new: ConfigDict) -> None:
    """A run goes on with the config it began with, except for what `MAY_CHANGE`.

    Raises:
        ConfigError: another key differs.
    """
    for name, old, value in difference(saved, new):
        if name.split(".")[0] not in MAY_CHANGE:
            raise error(
                f"config.{name}={keys.show(value)} cannot continue a run that began with {keys.show(old)}; "
                "give the same config, or a new --workdir"
            )


def check_same(given: list[str]) -> None:
    """The processes of one program are given one config, each as `to_json` writes it.

    Raises:
        ConfigError: one of them has another.
    """
    for process, text in enumerate(given):
        for name, first, other in difference(from_json(given[0]), from_json(text)) if text != given[0] else ():
            raise error(
                f"config.{name}={keys.show(other)} in process {process} is {keys.show(first)} in process 0; give every "
                "process of a program the same command, or each --num_processes=1 and a --workdir of its own"
            )


def _decided_first(*sources):
    """The algorithm and the environment suite, on which the other keys depend: of the first source that sets them."""
    chosen = []
    for name, default in (("algorithm", "ppo"), ("env.suite", "brax")):
        value = next((source[name] for source in sources if name in source), default)
        if not isinstance(value, str):
            raise error(f"config.{name}={keys.show(value)} must be a text, such as {default!r}")
        chosen.append(value)
    return chosen


def _nested(values):
    tree = {}
    for name, value in values.items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = value
    return ConfigDict(tree)


# Experiment files.


def _locate(name):
    """The file that --config=NAME means: NAME, NAME.py, or either in experiments/."""
    file = Path(name if name.endswith((".py", ".json")) else name + ".py")
    for path in (file, EXPERIMENTS / file):
        if os.path.isfile(path):  # False for a name that no file can have, where Path.is_file raises
            return path
    there = {path.name: path for folder in (EXPERIMENTS, file.parent) for path in _files(folder, file.suffix)}
    near = difflib.get_close_matches(file.name, there, n=1)
    cure = f"did you mean --config={there[near[0]]}?" if near else _experiments_to_choose_from()
    raise error(f"--config={keys.clip(name)} is not a file; {cure}")


def _files(folder, suffix):
    with contextlib.suppress(OSError, ValueError):
        return sorted(path for path in folder.iterdir() if path.suffix == suffix and path.stem != "__init__")
    return []


def _experiments_to_choose_from():
    names = ", ".join(path.stem for path in _files(EXPERIMENTS, ".py"))
    return f"write --config=NAME with one of {names}" if names else "write --config=PATH.py, an experiment file"


def _call_get_config(path, args):
    """What get_config of a Python file returns."""
    module = ModuleType("experiment")
    module.__file__ = str(path)
    try:
        # Compiled afresh: an import would leave bytecode beside it, and could read a stale one.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise error(f"--config={path} has no get_config; define get_config() and let it return a ConfigDict")
        if not _takes(get_config, args):
            cure = "leave out :ARG" if args else f"write --config={path}:ARG"
            raise error(f"--config={':'.join([str(path), *args])} does not fit the arguments of get_config; {cure}")
        partial = get_config(*args)
        if not isinstance(partial, Mapping | ConfigDict):
            raise error(f"--config={path} returns {keys.show(partial)}; let get_config() return a ConfigDict")
        # A copy of the values themselves, so that lazy ones are worked out while a mistake is still the file's.
        return ConfigDict(partial.to_dict() if isinstance(partial, ConfigDict) else partial)
    except ConfigError:
        raise
    except (Exception, SystemExit) as mistake:
        where = f"line {_line(mistake, path)} ({type(mistake).__name__}: {mistake})"
        raise error(f"--config={path} fails at {where}; correct the file") from mistake


def _takes(function, args):
    try:
        inspect.signature(function).bind(*args)
    except TypeError:
        return False
    return True


def _line(mistake, path):
    """The last line of the file at `path` that ran before the exception."""
    if isinstance(mistake, SyntaxError) and mistake.filename == str(path):
        return mistake.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(mistake.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else 1


def _read_json(path):
    try:
        return ConfigDict(_parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as mistake:  # a JSONDecodeError or UnicodeDecodeError is a ValueError
        raise error(f"--config={path} cannot be read ({mistake}); give the config.json of a run") from None


def _parse_json(text):
    """A JSON object as a dict; ValueError if it is anything else."""
    partial = json.loads(text)
    if not isinstance(partial, dict):
        raise ValueError(f"it is {keys.show(partial)}, not a JSON object")
    return partial


# The command line.

USAGE = """\
Usage: python -m jaxrl.train --config=PATH[:ARG] [--workdir=DIR] [--config.KEY=VALUE ...]

Trains what the experiment file PATH describes. The same command with the same workdir goes on where it stopped.

  --config=PATH[:ARG]    an experiment file (its get_config(ARG) is called), its name alone if it is in experiments/,
                         or the config.json of an earlier run
  --workdir=DIR          the run folder; runs/NAME_OF_THE_EXPERIMENT if not given
  --config.KEY=VALUE     sets a key to another value than the experiment's
  --coordinator=HOST:PORT, --num_processes=N, --process_id=I
                         one program over several hosts: where process 0 runs, how many there are, which this is, from 0
                         on; not needed on Slurm, Cloud TPU, Kubernetes and Open MPI 4, which tell
  --help                 this text
  --help_config          every key with its default, range and meaning

Examples:
  python -m jaxrl.train --config=experiments/inverted_double_pendulum.py
  python -m jaxrl.train --config=ant --workdir=runs/ant_seed_1 --config.seed=1
  python -m jaxrl.train --config=ant --config.env.backend=mjx --config.ppo.learning_rate=1e-3
  python -m jaxrl.train --config=runs/ant/config.json --workdir=runs/ant_again
"""

PROCESSES = ("coordinator", "num_processes", "process_id")
TAKES_VALUE = ("--config", "--workdir", *(f"--{name}" for name in PROCESSES))
FLAGS = (*TAKES_VALUE, "--help", "--help_config")

# Flags of other trainers that are no keys of ours.
CURES = {
    "checkpoint": "the same --config and --workdir go on from the last checkpoint",
    "device": "set the environment variable JAX_PLATFORMS to cpu, cuda or tpu",
    "log_dir": "write --workdir=DIR",
    "logdir": "write --workdir=DIR",
    "output": "write --workdir=DIR",
    "progress": "the bar is there unless --config.writers leaves out console",
    "resume": "the same --config and --workdir go on from the last checkpoint",
    "track": "write --config.writers=console,jsonl,wandb",
    "wandb": "write --config.writers=console,jsonl,wandb",
}


class Arguments(NamedTuple):
    """What the command line of `train` says."""

    config: str  # as `load` takes it
    workdir: Path
    overrides: list[tuple[str, str]]  # as `resolve` takes them
    processes: dict[str, str]  # of PROCESSES, as `processes.group` takes them


def parse_command_line(argv: list[str]) -> Arguments:
    """Reads the arguments of `train`; --help and --help_config print and exit with status 0.

    Args:
        argv: without the program's name.

    Raises:
        ConfigError: a flag does not exist or lacks its value; the message has the spelling to use.
    """
    if {"-h", "--help"} & set(argv):
        _print_and_exit(USAGE)
    flags, overrides = {}, []
    words = [word for word in argv if word != "--help_config"]
    while words:
        flag, equals, value = words.pop(0).partition("=")
        is_override = flag.startswith("--config.")
        if flag not in TAKES_VALUE and not is_override:
            raise _unknown_flag(flag, value or _value_ahead(words), bool(equals))
        if not equals and _value_ahead(words):
            value = words.pop(0)
        if not value and not (equals and is_override):
            raise error(f"{flag} needs a value; write {flag}={'DIR' if flag == '--workdir' else 'VALUE'}")
        if is_override:
            overrides.append((flag.removeprefix("--config."), value))
        else:
            flags[flag] = value
    if "--help_config" in argv:
        _print_and_exit(describe(*_decided_first(dict(overrides))))
    if "--config" not in flags:
        raise error(f"--config is missing; {_experiments_to_choose_from()}")
    workdir = Path(flags.get("--workdir") or RUNS / _experiment_name(flags["--config"]))
    given = {name: flags[f"--{name}"] for name in PROCESSES if f"--{name}" in flags}
    return Arguments(flags["--config"], workdir, overrides, given)


def describe(algorithm: str = "ppo", suite: str = "brax") -> str:
    """One line for each key: the flag that sets it to its default, its meaning, its range or choices."""
    lines = []
    for name, key in keys.table(algorithm, suite).items():
        notes = [key.comment] if key.comment else []
        if key.limits and key.limits != (None, None):
            notes.append(keys.interval(key.limits))
        if key.choices:
            notes.append(" | ".join(map(str, key.choices)))
        lines.append(f"{f'--config.{name}={_as_typed(key.default)}':<52} {'; '.join(notes)}".rstrip())
    return "\n".join(lines) + "\n"


def _print_and_exit(text):
    sys.stdout.write(text)
    raise SystemExit(0)


def _value_ahead(words):
    return words[0] if words and not words[0].startswith("--") else ""


def _unknown_flag(flag, value, has_equals):
    """The error for a word that is no flag of ours, with the spelling that is."""
    if not flag.startswith("-") and not has_equals:
        return error(f"{flag} has no flag before it; write --config={flag}")
    typed = f"={value}" if has_equals else ""
    name = flag.lstrip("-").replace("-", "_").removeprefix("config.")
    table = keys.table()
    key = keys.same_meaning(table, name)
    flags = difflib.get_close_matches(f"--{name}", FLAGS, n=1, cutoff=0.7)
    if name in CURES:
        cure = CURES[name]
    elif flags and not key:
        cure = f"did you mean {flags[0]}{f'={value}' if value else ''}?"
    else:
        key = key or keys.nearest(table, name)
        cure = f"write --config.{key}={value or 'VALUE'}" if key else "--help lists the flags, --help_config the keys"
    return error(f"{keys.clip(flag + typed)} is not a flag; {cure}")


def _experiment_name(path_and_arg):
    """'experiments/ant.py:fast' → 'ant-fast'; the config.json of a run → the name of its folder."""
    name, _, arg = path_and_arg.partition(":")
    path = Path(name)
    stem = path.parent.name if path.name == "config.json" else path.name.removesuffix(".py").removesuffix(".json")
    return re.sub(r"[^\w.-]+", "-", f"{stem}-{arg}" if arg else stem) or "run"


def _as_typed(value):
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_as_typed, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
