"""Tags are stable: each that a run writes is in the table, the table is in the docs, and aliases are CleanRL's."""

import re
from pathlib import Path

import pytest

import jaxrl
from jaxrl.host import curves, history, tracking
from jaxrl.types import ConfigError

DOCS = Path(__file__).parents[2] / "docs"

# Of https://github.com/vwxyzjn/cleanrl/blob/master/cleanrl/ppo.py; and what openrlbenchmark reads a curve over.
CLEANRL = {
    "global_step", "charts/learning_rate", "charts/SPS", "charts/episodic_return", "charts/episodic_length",
    "losses/value_loss", "losses/policy_loss", "losses/entropy", "losses/approx_kl", "losses/clipfrac",
    "losses/explained_variance",
}  # fmt: skip
PINNED = {
    "eval/episode_return": "", "rollout/episode_return": "charts/episodic_return", "env_steps": "global_step",
    "rollout/episode_length": "charts/episodic_length", "update/learning_rate": "charts/learning_rate",
    "speed/env_steps_per_second": "charts/SPS", "loss/value": "losses/value_loss", "loss/policy": "losses/policy_loss",
    "loss/entropy": "losses/entropy", "update/kl": "losses/approx_kl", "update/clip_fraction": "losses/clipfrac",
    "update/explained_variance": "losses/explained_variance",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run that is asked for a report and a video, of a suite that has no pictures."""
    short = {"total_env_steps": 512, "env.name": "target", "checkpoint.interval": 256, "eval.episodes": 4}
    wanted = {"tracking.report": True, "tracking.video": True}
    folder = tmp_path_factory.mktemp("runs") / "tracked"
    return jaxrl.train(Path(__file__).parent / "probe_experiment.py", folder, short | wanted)


def test_aliases_are_cleanrls():
    assert {tag.alias for tag in tracking.TAGS.values()} - {""} == CLEANRL


@pytest.mark.parametrize("name", list(PINNED))
def test_a_tag_keeps_its_name_and_its_alias(name):
    assert tracking.TAGS[name].alias == PINNED[name]


def test_every_tag_that_a_run_writes_is_in_the_table(run):
    written = {name for row in run.history for name in row}
    assert not written - tracking.TAGS.keys()
    assert set(PINNED) <= written


def test_the_table_is_in_the_docs_and_says_all():
    assert tracking.table() in (DOCS / "tracking.md").read_text(encoding="utf-8")
    assert all(tag.meaning for tag in tracking.TAGS.values())


def test_a_row_gets_its_aliases_and_keeps_its_own_names():
    config = jaxrl.configure({"env": {"suite": "probe"}})
    row = {"env_steps": 5, "loss/value": 2.0, "eval/episodes": 8}
    assert tracking.with_aliases(row, config) == row | {"global_step": 5, "losses/value_loss": 2.0}
    assert tracking.with_aliases(row, jaxrl.configure(config, {"tracking.aliases": False})) == row


def test_runs_are_found_by_task_and_experiment():
    config = jaxrl.configure({"env": {"suite": "gymnax", "name": "CartPole-v1"}})
    assert tracking.identity(config) == {"env_id": "CartPole-v1", "exp_name": "jaxrl_ppo"}
    config = jaxrl.configure(config, {"tracking.experiment": "mine"})
    assert tracking.identity(config)["exp_name"] == "mine"


def test_the_report_is_written_at_the_end_and_a_video_that_cannot_be_ends_no_run(run):
    assert "</html>" in (run.workdir / "report.html").read_text(encoding="utf-8")
    assert not (run.workdir / "videos").exists() and run.env_steps == 512
    said = []
    tracking.finish(run.workdir, jaxrl.configure(run.config, {"tracking.report": False}), 512, said.append)
    assert len(said) == 1 and re.fullmatch(r"no video: config.env.suite='probe' cannot be drawn: [^\n]*", said[0])


def test_updates_are_counted_in_the_rows(run):
    rows = history.read(run.workdir)
    assert [row["update/iterations"] * 64 for row in rows] == [row["env_steps"] for row in rows]
    x, _ = curves.series(curves.read(run.workdir), "eval/episode_return", curves.View("updates"))
    assert x[0] == 0 and x[-1] == 8


def test_tracking_may_change_when_a_run_goes_on(run):
    again = jaxrl.train(run.config, run.workdir, {"tracking.report": False, "tracking.video": False})
    assert again.env_steps == 512
    with pytest.raises(ConfigError, match="cannot continue"):
        jaxrl.train(run.config, run.workdir, {"ppo.gamma": 0.5})
