"""The tags of what is tracked, and what is done at a run's end: its report, its video.

A tag keeps its name and its meaning; docs/tracking.md has the table. `eval/` and `rollout/` are of episodes, `loss/` of
the terms of the loss before their costs, `update/` of the update itself.
"""

from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxrl.types import ConfigError


class Tag(NamedTuple):
    """A metric in the rows of a run."""

    unit: str
    meaning: str
    alias: str = ""  # what CleanRL calls it, and openrlbenchmark reads


TAGS = {
    "env_steps": Tag("env steps", "of all environments together, and the x axis of all others", "global_step"),
    "wall_seconds": Tag("s", "since the run began, compiling included; it goes on over a resume"),
    "eval/episode_return": Tag("return", "mean over full episodes of the policy as `eval.deterministic` says"),
    "eval/episode_return_std": Tag("return", "standard deviation over those episodes"),
    "eval/episode_return_min": Tag("return", "of the worst of them"),
    "eval/episode_return_max": Tag("return", "of the best of them"),
    "eval/episode_length": Tag("steps", "mean over those episodes"),
    "eval/episode_length_max": Tag("steps", "of the longest of them"),
    "eval/episodes": Tag("episodes", "that were played"),
    "rollout/episode_return": Tag("return", "mean over the training episodes that ended since the last row",
                                  "charts/episodic_return"),
    "rollout/episode_length": Tag("steps", "mean over those episodes", "charts/episodic_length"),
    "rollout/episode_length_max": Tag("steps", "of the longest that is under way or has ended"),
    "rollout/episodes": Tag("episodes", "that ended; where none did, their means are left out"),
    "rollout/reward": Tag("reward", "mean over the steps, as the environment gives it"),
    "rollout/blocked": Tag("share", "of steps in which `action_mask` allowed nothing"),
    "rollout/novelty": Tag("reward", "what novelty (RND) pays: mean squared error of the predictor"),
    "loss/policy": Tag("advantage", "the clipped surrogate, mean over the minibatches", "losses/policy_loss"),
    "loss/value": Tag("return²", "the value loss, without `ppo.value_cost`", "losses/value_loss"),
    "loss/entropy": Tag("nats", "mean entropy of the policy", "losses/entropy"),
    "loss/bound": Tag("action²", "how far means lie beyond the actions' bounds, without its cost"),
    "update/kl": Tag("nats", "mean KL of the policy from that which acted", "losses/approx_kl"),
    "update/clip_fraction": Tag("share", "of samples whose ratio was clipped", "losses/clipfrac"),
    "update/explained_variance": Tag("at most 1", "of the returns, by the value", "losses/explained_variance"),
    "update/gradient_norm": Tag("norm", "of the gradient before it is clipped"),
    "update/learning_rate": Tag("", "that the last update of the epoch used", "charts/learning_rate"),
    "update/iterations": Tag("updates", "rollouts, each with its update, since the run began"),
    "speed/env_steps_per_second": Tag("env steps/s", "of the epoch, evaluations left out", "charts/SPS"),
    "speed/compile_seconds": Tag("s", "that compiling took as the run started"),
}  # fmt: skip


def default_config() -> ConfigDict:
    """The group `tracking`."""
    config = ConfigDict()
    config.aliases = True  # TensorBoard and W&B get CleanRL's names too, which openrlbenchmark reads
    config.experiment = ""  # W&B's config.exp_name, by which openrlbenchmark finds runs; '' = jaxrl_ALGORITHM
    config.report = False  # writes report.html at the end of the run, and sends it to W&B if that is a writer
    config.video = False  # draws videos/final at the end of the run, and sends it to W&B if that is a writer
    return config


def with_aliases(row: dict, config: ConfigDict) -> dict:
    """A row of metrics, with the names that CleanRL has for them beside ours; config: the run's."""
    if not config.tracking.aliases:
        return row
    return row | {tag.alias: row[name] for name, tag in TAGS.items() if tag.alias and name in row}


def identity(config: ConfigDict) -> dict[str, str]:
    """The keys of W&B's config by which openrlbenchmark finds a run: `env_id` and `exp_name` (its ceik and cen)."""
    return {"env_id": config.env.name, "exp_name": config.tracking.experiment or f"jaxrl_{config.algorithm}"}


def finish(folder: Path, config: ConfigDict, env_steps: int, say) -> None:
    """Writes what the config asks for at the end of a run, and sends it to W&B if that is a writer.

    What cannot be had (a suite without pictures, no OpenGL, no network) is said; the run is good all the same.

    Args:
        folder: of the run, which is closed.
        env_steps: after which it ended.
        say: takes a line.
    """
    files: dict[str, Path] = {}
    for name, write in (("video", _video), ("report", _report)):
        if config.tracking[name]:
            try:
                files[name] = write(folder, config)
                say(f"{name}: {files[name]}")
            except ConfigError as error:
                say(f"no {name}: {error}")
    if files and "wandb" in config.writers:
        from jaxrl.host.writers import wandb

        try:
            wandb.upload(folder, config, env_steps, files)
        except ConfigError as error:
            say(f"nothing uploaded: {error}")


def _report(folder: Path, config: ConfigDict) -> Path:
    from jaxrl.host import report

    return report.write(folder, folder / "report.html")


def _video(folder: Path, config: ConfigDict) -> Path:
    from jaxrl import envs
    from jaxrl.host import pictures, recording

    recording.choose_renderer()  # before anything imports MuJoCo
    envs.scene(config.env)  # an error here leaves no folder behind
    path = folder / "videos" / f"final{pictures.suffix()}"
    path.parent.mkdir(exist_ok=True)
    pictures.write(folder, "latest", sampled=False, seed=0, html=None, video=path)
    return path


def table() -> str:
    """The tags as the table of docs/tracking.md."""
    lines = ["| tag | unit | what it is | alias |", "|---|---|---|---|"]
    for name, tag in TAGS.items():
        alias = f"`{tag.alias}`" if tag.alias else ""
        lines.append(f"| `{name}` | {tag.unit} | {tag.meaning} | {alias} |")
    return "\n".join(lines) + "\n"
