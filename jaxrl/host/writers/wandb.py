"""Sends rows of metrics to Weights & Biases (the extra `jaxrl[wandb]`), steered by W&B's own WANDB_... variables."""

import os
import secrets
from pathlib import Path

from jaxrl.host.writers import console
from jaxrl.types import ConfigError, Writer

ID_FILE = "wandb_id.txt"


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer to one W&B run, whose id stays in the run folder.

    A resumed run repeats itself bit for bit, so rows beyond env_steps that W&B already holds are not sent again: W&B
    cannot take rows back. Rows pass through W&B's own process, which keeps them when ours is killed.

    Args:
        config: uploaded, as the run's config.
        workdir: the run folder; offline files go to its wandb/.
        env_steps: None begins a new W&B run; a number goes on with the one whose id is stored.

    Raises:
        ConfigError: wandb is not installed, or refuses to start (no login, no network).
    """
    try:
        import wandb
    except ImportError:
        raise ConfigError(
            "writers: 'wandb' needs a package that is not installed; pip install jaxrl[wandb], or leave it out"
        ) from None

    workdir.mkdir(parents=True, exist_ok=True)
    run_id = _id(workdir, afresh=env_steps is None)
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxrl"),
            name=workdir.name,
            id=run_id,
            resume="allow" if env_steps is not None else None,
            dir=workdir,
            config=config.to_dict(),
            # Silent, and hands off our prints: both would tear the progress bar.
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        reason = str(error).splitlines()[0]
        cure = "run wandb login, or set WANDB_MODE=offline"
        raise ConfigError(f"writers: 'wandb' did not start ({reason}); {cure}") from None
    if not run.offline:
        console.say(f"wandb: {run.url}")
    run.define_metric("env_steps")
    run.define_metric("*", step_metric="env_steps")
    first_step = run.starting_step  # 0, or one behind the last row that W&B holds

    def write(row: dict) -> None:
        if row["env_steps"] >= first_step:
            # Our step, so that W&B too knows which rows it has; commit, or the row waits for the next one.
            run.log(row, step=row["env_steps"], commit=True)

    return Writer(write, run.finish)


def _id(workdir: Path, afresh: bool) -> str:
    """The id of the folder's W&B run, made and stored where there is none."""
    path = workdir / ID_FILE
    if afresh or not path.is_file():
        path.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
