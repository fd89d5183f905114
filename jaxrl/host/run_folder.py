"""The folder of a run, and what is written into it before anything else.

config.json   the resolved config, which `play` and a resumed run read
spec.json     what the policy sees and does: sizes, dtypes, names and bounds, in the form of `specs.py`; with it a
              policy is loaded where its environment is not installed. Not there in older folders, and where an
              observation is of containers that JSON has not
run.json      how the run came about
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ml_collections import ConfigDict

from jaxrl.host import config as configs
from jaxrl.host import keys, specs
from jaxrl.host.keys import error
from jaxrl.types import ConfigError, Spec

FORMAT_VERSION = 1  # of run.json and of what lies beside it

CONFIG, RUN, SPEC = "config.json", "run.json", "spec.json"
PACKAGES = ("jax", "jaxlib", "brax", "jaxrl")


def open_run(
    workdir: Path, config: ConfigDict, command_line: list[str] | str, devices: dict, spec: Spec | None = None
) -> Path:
    """Makes the folder of a new run, or opens that of a run which goes on, and notes this start in it.

    Args:
        workdir: the folder; it and its parents are made if they do not exist.
        config: resolved.
        command_line: as typed, `sys.argv`.
        devices: what the run computes on, such as {'kind': 'cpu', 'count': 1}; goes into run.json as it is.
        spec: of its environments.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder cannot be made or written, holds something else, or holds a run with another config.
    """
    workdir = Path(workdir)
    try:
        if workdir.exists() and not workdir.is_dir():
            raise error(f"--workdir={workdir} is a file; give a folder")
        workdir.mkdir(parents=True, exist_ok=True)
        if is_run(workdir):
            configs.check_resume(read_config(workdir), config)
        elif others := _foreign(workdir):
            raise error(f"--workdir={workdir} is no run folder but holds {keys.show(others[0])}; give a new --workdir")
        run = _with_start(_read_run(workdir), config.seed, _start(command_line, devices))
        _write_spec(workdir / SPEC, spec)
        _write(workdir / CONFIG, configs.to_json(config))
        _write(workdir / RUN, json.dumps(run, indent=2) + "\n")
    except ConfigError:
        raise
    except (OSError, ValueError) as mistake:  # ValueError: a name that no folder can have
        raise error(f"--workdir={workdir} cannot be written ({mistake}); give another --workdir") from None
    return workdir


@contextlib.contextmanager
def running(workdir: Path) -> Iterator[None]:
    """Notes in run.json when the start that goes on within has ended; a process that is killed leaves no such note."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ConfigError):  # no room left, or no folder: that is not why it ended
            run = _read_run(workdir)
            last = run["starts"][-1] | {"ended": _now()}
            _write(workdir / RUN, json.dumps(run | {"starts": [*run["starts"][:-1], last]}, indent=2) + "\n")


def has_ended(workdir: Path) -> bool:
    """Whether the last start of the run in this folder has ended, as far as it could tell.

    Raises:
        ConfigError: run.json cannot be read.
    """
    run = _read_run(workdir)
    return bool(run and run["starts"] and "ended" in run["starts"][-1])


def is_run(workdir: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (workdir / CONFIG).exists()


def read_config(workdir: Path) -> ConfigDict:
    """The resolved config of the run in this folder; nothing is executed.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = workdir / CONFIG
    try:
        return configs.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as mistake:
        raise error(f"{path} cannot be read ({mistake}); restore the file, or give a new --workdir") from None


def read_run(workdir: Path) -> dict:
    """What run.json tells: `time`, `command_line`, `versions`, `devices` and `git` of the first start, and `starts`.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    run = _read_run(workdir)
    if run is None:
        raise error(f"{workdir / RUN} does not exist; give the folder of a run")
    return run


def read_spec(workdir: Path) -> Spec | None:
    """What the policy of the run in this folder sees and does; None where that is written nowhere.

    Raises:
        ConfigError: it cannot be read.
    """
    path = workdir / SPEC
    if not path.exists():
        return None
    try:
        return specs.decode(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as mistake:
        raise error(
            f"{path} cannot be read ({mistake!r}); restore the file, or delete it: its environment is asked then"
        ) from None


def _write_spec(path, spec):
    encoded = specs.encode(spec) if spec else None
    if encoded:
        _write(path, json.dumps(encoded, indent=2, allow_nan=False) + "\n")
    else:
        path.unlink(missing_ok=True)


def _foreign(workdir):
    """What in a folder is neither ours nor left over from a start that was killed as it began."""
    return sorted({path.name for path in workdir.iterdir()} - {SPEC, *map(_temporary, (CONFIG, RUN, SPEC))})


def _read_run(workdir):
    """What run.json holds; None if this is the first start."""
    path = workdir / RUN
    if not path.exists():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        version, _ = run["format_version"], list(run["starts"])
    except (ValueError, TypeError, KeyError, RecursionError) as mistake:
        raise error(f"{path} cannot be read ({mistake!r}); delete the file, or give a new --workdir") from None
    if version != FORMAT_VERSION:
        raise error(f"{path} has format_version={version!r}, not {FORMAT_VERSION}; go on with the jaxrl that wrote it")
    return run


def _with_start(run, seed, start):
    """run.json: how the run began, then every start of it, the first included."""
    if run is None:
        return {"format_version": FORMAT_VERSION, "seed": seed, **start, "starts": [start]}
    return {**run, "starts": [*run["starts"], start]}


def _start(command_line, devices):
    return {
        "time": _now(),
        "command_line": command_line,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "devices": devices,
        "git": _git(Path(__file__).parent),
    }


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package):
    """The installed version; None if the package is not installed, as when jaxrl runs from its source."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder):
    """The commit of the checkout that holds `folder`, and whether files of it were changed; None outside of one."""
    commit = _run_git(folder, "rev-parse", "--verify", "HEAD")
    changes = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _run_git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):  # no git, or one that hangs on a slow disk
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _temporary(name):
    return f".{name}.tmp"


def _write(path, text):
    """Writes a file whole or not at all, also if the process is killed meanwhile."""
    temporary = path.with_name(_temporary(path.name))
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
