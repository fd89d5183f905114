"""Follows a run that is still training: each checkpoint as it appears, until the run has ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

from jaxrl.host import policies, run_folder
from jaxrl.host.policies import Found
from jaxrl.types import Algorithm, ConfigError, PyTree


def follow(
    run: str | Path, algorithm: Algorithm, wait: Callable[[], None], warn: Callable[[str], None]
) -> Iterator[tuple[Found, PyTree]]:
    """Yields (checkpoint, agent) of each that is there, ascending, and then of each new one.

    The run has ended when run.json says so, or when there is a checkpoint of all the steps that it was to train for. A
    run that was killed has not: whoever starts it again finds it followed. One that is deleted before it can be read,
    as those are that a run does not keep, is passed over; so is one that is damaged, with a warning.

    Args:
        run: the run folder.
        algorithm: that restores the agents, made once of the run's config.
        wait: returns when it is time to look again.
        warn: takes a line.

    Raises:
        ConfigError: there is no such run.
    """
    config = policies.config_of(run)
    folder = Path(run) / policies.CHECKPOINTS
    seen: set[tuple] = set()
    while True:
        has_ended = run_folder.has_ended(Path(run))  # asked first: what is saved until then is in the list
        steps = policies.steps(folder, config)
        for step in steps:
            identity = _identity(folder / str(step))
            if identity is None or identity in seen:
                continue
            seen.add(identity)
            found = Found(config, folder, step)
            try:
                agent = policies.restore(found, algorithm)
            except ConfigError as mistake:
                if _identity(folder / str(step)) == identity:
                    warn(f"warning: {mistake}")
                continue
            yield found, agent
        if has_ended or (steps and steps[-1] >= config.total_env_steps):
            return
        wait()


def _identity(folder: Path) -> tuple | None:
    """What tells one checkpoint from another that takes its name, as after a run fell back; None if there is none."""
    try:
        state = folder.stat()
    except FileNotFoundError:
        return None
    return folder.name, state.st_ino, state.st_mtime_ns
