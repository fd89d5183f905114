"""Training a row at a time: the rows are those of the file, and whoever leaves the loop leaves a run that can go on."""

import json
import pathlib

import pytest

import jaxrl
from jaxrl.host import history

EXPERIMENT = pathlib.Path(__file__).parent / "probe_experiment.py"  # 20 epochs of 128 steps, a save every 512


def digests(workdir):
    """env_steps -> fingerprint of the whole TrainState, of every checkpoint on disk."""
    metas = {meta.parts[-3]: json.loads(meta.read_text()) for meta in workdir.glob("checkpoints/*/meta/metadata")}
    return {int(step): meta["meta"]["fingerprint"] for step, meta in metas.items()}


def timeless(rows):
    """The rows but for clocks and speeds."""
    return [{k: v for k, v in row.items() if k != "wall_seconds" and not k.startswith("speed/")} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, rows) of a run whose rows were all asked for."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, list(jaxrl.iterate(EXPERIMENT, workdir))


def test_the_rows_are_those_that_are_written(whole):
    workdir, rows = whole
    assert [row["env_steps"] for row in rows] == list(range(0, 2561, 128))
    assert rows == history.read(workdir)


@pytest.mark.parametrize("left_at", [0, 384, 512, 640])
def test_a_loop_that_is_left_has_saved_and_goes_on_bit_for_bit(whole, tmp_path, left_at):
    for row in jaxrl.iterate(EXPERIMENT, tmp_path / "run"):
        if row["env_steps"] == left_at:
            break
    written = history.read(tmp_path / "run")
    # The epoch under way, if there is one, is finished.
    assert written[-1]["env_steps"] in (left_at, left_at + 128)
    assert max(digests(tmp_path / "run")) == written[-1]["env_steps"]
    run = jaxrl.train(EXPERIMENT, tmp_path / "run")
    assert run.env_steps == 2560
    assert digests(tmp_path / "run")[2560] == digests(whole[0])[2560]
    assert timeless(run.history) == timeless(whole[1])


def test_a_mistake_in_the_loop_leaves_a_saved_run_too(tmp_path):
    rows = jaxrl.iterate(EXPERIMENT, tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        for _ in rows:
            1 / 0  # noqa: B018
    rows.close()
    assert digests(tmp_path / "run")


def test_a_config_that_cannot_be_says_so_before_the_first_row():
    with pytest.raises(jaxrl.types.ConfigError, match="ppo.gama"):
        jaxrl.iterate(EXPERIMENT, "runs/none", {"ppo.gama": 0.5})
