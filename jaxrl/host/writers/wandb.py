"""Sends rows of metrics to Weights & Biases (the extra `jaxrl[wandb]`), steered by W&B's own WANDB_... variables."""

import os
import secrets
from pathlib import Path

from jaxrl.host import tracking
from jaxrl.host.writers import console
from jaxrl.types import ConfigError, Writer

ID_FILE = "wandb_id.txt"


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer to one W&B run, whose id stays in the run folder.

    A resumed run repeats itself bit for bit, so rows beyond env_steps that W&B already holds are not sent again: W&B
    cannot take rows back. Rows pass through W&B's own process, which keeps them when ours is killed.

    Args:
        config: uploaded, as the run's config, with the two keys by which openrlbenchmark finds a run.
        workdir: the run folder; offline files go to its wandb/.
        env_steps: None begins a new W&B run; a number goes on with the one whose id is stored.

    Raises:
        ConfigError: wandb is not installed, or refuses to start (no login, no network).
    """
    workdir.mkdir(parents=True, exist_ok=True)
    run = _open(config, workdir, _id(workdir, afresh=env_steps is None), goes_on=env_steps is not None)
    if not run.offline:
        console.say(f"wandb: {run.url}")
    run.define_metric("env_steps")
    run.define_metric("*", step_metric="env_steps")
    first_step = run.starting_step  # 0, or one behind the last row that W&B holds

    def write(row: dict) -> None:
        if row["env_steps"] >= first_step:
            # Our step, so that W&B too knows which rows it has; commit, or the row waits for the next one.
            run.log(tracking.with_aliases(row, config), step=row["env_steps"], commit=True)

    return Writer(write, run.finish)


def upload(workdir: Path, config, env_steps: int, files: dict[str, Path]) -> None:
    """Adds a report (.html) and videos (.gif, .mp4) to the W&B run of a run folder, which has ended.

    Args:
        workdir: the run folder.
        config: of the run.
        env_steps: after which it ended; the files stand one behind, as W&B takes nothing more at a step that it has.
        files: by the tag under which they appear.

    Raises:
        ConfigError: the folder has no W&B run, wandb is not installed, or it refuses to start.
    """
    if not (workdir / ID_FILE).is_file():
        raise ConfigError(f"{workdir} has no {ID_FILE}; train it with --config.writers=console,jsonl,wandb")
    wandb = _module()
    run = _open(config, workdir, _id(workdir, afresh=False), goes_on=True)
    kinds = {".html": wandb.Html, ".gif": wandb.Video, ".mp4": wandb.Video}
    media = {tag: kinds[path.suffix](str(path)) for tag, path in files.items()}
    run.log({"env_steps": env_steps, **media}, step=max(env_steps + 1, run.starting_step), commit=True)
    run.finish()


def _module():
    try:
        import wandb
    except ImportError:
        raise ConfigError(
            "writers: 'wandb' needs a package that is not installed; pip install jaxrl[wandb], or leave it out"
        ) from None
    return wandb


def _open(config, workdir: Path, run_id: str, goes_on: bool):
    """The W&B run of that id; begun, or gone on with."""
    wandb = _module()
    try:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxrl"),
            name=workdir.name,
            id=run_id,
            resume="allow" if goes_on else None,
            dir=workdir,
            config=config.to_dict() | tracking.identity(config),
            # Silent, and hands off our prints: both would tear the progress bar.
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        reason = str(error).splitlines()[0]
        cure = "run wandb login, or set WANDB_MODE=offline"
        raise ConfigError(f"writers: 'wandb' did not start ({reason}); {cure}") from None


def _id(workdir: Path, afresh: bool) -> str:
    """The id of the folder's W&B run, made and stored where there is none."""
    path = workdir / ID_FILE
    if afresh or not path.is_file():
        path.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
