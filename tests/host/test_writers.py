"""Rows of metrics reach the disk whole, and a resumed run leaves no gap and no repeat in any of the files."""

import csv
import importlib
import json
import math
import struct
import sys

import pytest
from ml_collections import ConfigDict
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from jaxrl import find
from jaxrl.host import history
from jaxrl.types import ConfigError

CONFIG = ConfigDict(
    {
        "total_env_steps": 1000,
        "algorithm": "ppo",
        "env": {"suite": "brax", "name": "ant"},
        "ppo": {"learning_rate": 3e-4},
        "network": {"hidden_sizes": (64, 64)},
        "tracking": {"aliases": True, "experiment": ""},
    }
)


def make(name, workdir, env_steps=None, config=CONFIG):
    return find.find("host.writers", name).make(config, workdir, env_steps)


def row(env_steps, **values):
    return {"env_steps": env_steps, "wall_seconds": env_steps / 100, "loss/policy": -env_steps / 1000, **values}


def write(name, workdir, rows, env_steps=None):
    writer = make(name, workdir, env_steps)
    for one in rows:
        writer.write(one)
    writer.close()


def tensorboard_events(workdir):
    """Every event of every file, in TensorBoard's order: files by name."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (size,) = struct.unpack_from("<Q", data, start)
            events.append(Event.FromString(data[start + 12 : start + 12 + size]))
            start += 12 + size + 4
    return events


def steps_on_disk(name, workdir):
    """env_steps of the rows that a reader of the writer's file sees."""
    if name == "jsonl":
        return [json.loads(line)["env_steps"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    if name == "csv":
        with (workdir / "metrics.csv").open(newline="") as file:
            return [int(cells["env_steps"]) for cells in csv.DictReader(file)]
    return [event.step for event in scalar_events(workdir)]


def scalar_events(workdir):
    """Those events that hold the scalars of a row; the others tell of the config."""
    events = [event for event in tensorboard_events(workdir) if event.HasField("summary")]
    return [event for event in events if event.summary.value[0].HasField("simple_value")]


FILES = pytest.mark.parametrize("name", ["jsonl", "csv", "tensorboard"])


@FILES
def test_row_is_on_disk_when_write_returns(name, tmp_path):
    writer = make(name, tmp_path)
    writer.write(row(0))
    assert steps_on_disk(name, tmp_path) == [0]
    writer.write(row(100))
    assert steps_on_disk(name, tmp_path) == [0, 100]
    writer.close()


@FILES
def test_resume_drops_rows_beyond_the_checkpoint_and_goes_on(name, tmp_path):
    write(name, tmp_path, map(row, (0, 100, 200, 300)))
    write(name, tmp_path, map(row, (200, 300)), env_steps=100)
    assert steps_on_disk(name, tmp_path) == [0, 100, 200, 300]
    write(name, tmp_path, map(row, (300, 400)), env_steps=200)  # a second resume finds the first one's rows
    assert steps_on_disk(name, tmp_path) == [0, 100, 200, 300, 400]


@FILES
def test_new_run_starts_the_file_afresh(name, tmp_path):
    write(name, tmp_path, map(row, (0, 100, 200)))
    write(name, tmp_path, map(row, (0, 50)))
    assert steps_on_disk(name, tmp_path) == [0, 50]


@FILES
def test_resume_without_earlier_files_just_writes(name, tmp_path):
    write(name, tmp_path / "new", [row(200)], env_steps=100)
    assert steps_on_disk(name, tmp_path / "new") == [200]


@FILES
@pytest.mark.parametrize("lost", [1, 2, 5, 9])
def test_resume_mends_a_last_row_that_a_kill_cut_in_two(name, lost, tmp_path):
    write(name, tmp_path, map(row, (0, 100, 200)))
    path = {"jsonl": tmp_path / "metrics.jsonl", "csv": tmp_path / "metrics.csv"}.get(name)
    path = path or next((tmp_path / "tensorboard").iterdir())
    path.write_bytes(path.read_bytes()[:-lost])
    write(name, tmp_path, map(row, (200, 300)), env_steps=100)
    assert steps_on_disk(name, tmp_path) == [0, 100, 200, 300]


def test_jsonl_keeps_ints_and_floats_as_they_are(tmp_path):
    write("jsonl", tmp_path, [row(2**40, **{"eval/episodes": 128, "eval/episode_return": 0.1 + 0.2})])
    (read,) = history.read(tmp_path)
    assert read["env_steps"] == 2**40 and read["eval/episodes"] == 128
    assert isinstance(read["eval/episodes"], int)
    assert read["eval/episode_return"] == 0.1 + 0.2  # every bit of it


def test_jsonl_writes_null_for_what_is_not_finite(tmp_path):
    write("jsonl", tmp_path, [row(0, **{"loss/value": math.nan, "update/kl": -math.inf})])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss/value"] is None  # NaN and Infinity are not JSON
    assert json.loads(text)["update/kl"] is None


def test_csv_gives_late_metrics_a_column_and_leaves_earlier_cells_empty(tmp_path):
    rows = [row(0, **{"eval/episodes": 8}), row(100), row(200, **{"update/kl": 0.5, "eval/episodes": 8})]
    write("csv", tmp_path, rows)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["env_steps", "wall_seconds", "loss/policy", "eval/episodes", "update/kl"],
        ["0", "0.0", "0.0", "8", ""],
        ["100", "1.0", "-0.1", "", ""],
        ["200", "2.0", "-0.2", "8", "0.5"],
    ]


def test_csv_keeps_its_columns_over_a_resume(tmp_path):
    write("csv", tmp_path, [row(0, **{"eval/episodes": 8}), row(100)])
    write("csv", tmp_path, [row(200, **{"update/kl": 0.5})], env_steps=100)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        first, _, last = csv.DictReader(file)
    assert first["eval/episodes"] == "8" and first["update/kl"] == ""
    assert last["eval/episodes"] == "" and last["update/kl"] == "0.5"


def test_tensorboard_scalars_read_back_over_env_steps(tmp_path):
    write("tensorboard", tmp_path, [row(0), row(100, **{"eval/episode_return": 1.5})])
    event = scalar_events(tmp_path)[1]
    scalars = {value.tag: value.simple_value for value in event.summary.value}
    assert event.step == 100
    assert scalars.pop("losses/policy_loss") == scalars["loss/policy"]
    assert scalars == {"wall_seconds": 1.0, "loss/policy": pytest.approx(-0.1), "eval/episode_return": 1.5}


def test_tensorboard_has_cleanrls_names_unless_they_are_switched_off(tmp_path):
    config = CONFIG.copy_and_resolve_references()
    config.tracking.aliases = False
    writer = make("tensorboard", tmp_path, config=config)
    writer.write(row(0, **{"rollout/episode_return": 2.0}))
    writer.close()
    tags = {value.tag for event in scalar_events(tmp_path) for value in event.summary.value}
    assert tags == {"wall_seconds", "loss/policy", "rollout/episode_return"}


def test_tensorboard_holds_the_config_as_text_and_as_hyperparameters(tmp_path):
    write("tensorboard", tmp_path, [row(0)])
    values = {value.tag: value for event in tensorboard_events(tmp_path) for value in event.summary.value}
    (text,) = values["config/text_summary"].tensor.string_val
    assert b"| ppo.learning_rate | 0.0003 |" in text and b"| network.hidden_sizes | (64, 64) |" in text
    told = HParamsPluginData.FromString(values["_hparams_/session_start_info"].metadata.plugin_data.content)
    hyper = told.session_start_info.hparams
    assert hyper["ppo.learning_rate"].number_value == 3e-4 and hyper["env.name"].string_value == "ant"
    told = HParamsPluginData.FromString(values["_hparams_/experiment"].metadata.plugin_data.content)
    assert [metric.name.tag for metric in told.experiment.metric_infos][0] == "eval/episode_return"


def test_tensorboard_curves_do_not_double_after_a_resume(tmp_path):
    rows = [row(at, **{"rollout/episode_return": float(at)}) for at in (0, 100, 200, 300)]
    write("tensorboard", tmp_path, rows)
    write("tensorboard", tmp_path, rows[2:], env_steps=100)
    for tag in ("rollout/episode_return", "charts/episodic_return"):
        points = [
            (event.step, value.simple_value)
            for event in tensorboard_events(tmp_path) for value in event.summary.value if value.tag == tag
        ]  # fmt: skip
        assert points == [(at, float(at)) for at in (0, 100, 200, 300)]


def test_tensorboard_that_is_open_is_told_what_to_forget(tmp_path):
    write("tensorboard", tmp_path, map(row, (0, 100, 200)))
    write("tensorboard", tmp_path, [row(200)], env_steps=100)
    starts = [event for event in tensorboard_events(tmp_path) if event.session_log.status == SessionLog.START]
    assert [event.step for event in starts] == [101]  # TensorBoard purges what is at this step or beyond


def test_history_leaves_out_a_torn_last_line(tmp_path):
    write("jsonl", tmp_path, map(row, (0, 100)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 200, "wall_sec')
    assert [one["env_steps"] for one in history.read(tmp_path)] == [0, 100]


def test_history_names_a_broken_line_amid_the_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 0}\nrubbish\n{"env_steps": 2}\n')
    with pytest.raises(ConfigError, match="metrics.jsonl: line 2 is not a row"):
        history.read(tmp_path)


def test_history_of_a_folder_without_metrics_is_empty(tmp_path):
    assert history.read(tmp_path) == []


def test_series_skips_rows_without_the_key(tmp_path):
    rows = [row(0, **{"update/kl": 0.5}), row(100), row(200, **{"update/kl": None}), row(300, **{"update/kl": 0.25})]
    x, y = history.series(rows, "update/kl")
    assert x.tolist() == [0, 300] and y.tolist() == [0.5, 0.25]
    assert [len(axis) for axis in history.series(rows, "no/such")] == [0, 0]


def test_wandb_that_is_not_installed_is_one_line_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install jaxrl\[wandb\][^\n]*$"):
        make("wandb", tmp_path)


@pytest.mark.wandb
def test_wandb_offline_holds_rows_and_config_and_resumes_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write("wandb", tmp_path, [row(0, **{"eval/episode_return": 1234.5}), row(100)])
    run_id = (tmp_path / "wandb_id.txt").read_text().strip()
    write("wandb", tmp_path, [row(200, **{"eval/episode_return": 5432.5})], env_steps=100)
    assert (tmp_path / "wandb_id.txt").read_text().strip() == run_id

    importlib.import_module("wandb").teardown()  # its own process writes on for a moment
    first, second = sorted((tmp_path / "wandb").glob(f"offline-run-*-{run_id}*/run-{run_id}.wandb"))
    first, second = first.read_bytes(), second.read_bytes()
    for part in (b"1234.5", b"learning_rate", b"0.0003", b"env_steps"):
        assert part in first
    assert b"5432.5" in second and b"1234.5" not in second  # what the first part holds is not sent twice


@pytest.mark.wandb
def test_new_run_gets_a_new_wandb_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = []
    for _ in range(2):
        write("wandb", tmp_path, [row(0)])
        ids.append((tmp_path / "wandb_id.txt").read_text())
    assert ids[0] != ids[1]


@pytest.mark.wandb
def test_wandb_holds_what_openrlbenchmark_looks_for(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write("wandb", tmp_path, [row(1024, **{"rollout/episode_return": 1234.5})])
    stored = b"".join(wandb_files(tmp_path))
    # Runs are found by config.env_id and config.exp_name, and drawn by these two columns of their history.
    for part in (b"charts/episodic_return", b"global_step", b"env_id", b"exp_name", b"jaxrl_ppo"):
        assert part in stored


@pytest.mark.wandb
def test_wandb_takes_a_report_and_a_video_into_the_run_that_has_ended(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = importlib.import_module("jaxrl.host.writers.wandb")
    with pytest.raises(ConfigError, match="has no wandb_id.txt; train it with"):
        writer.upload(tmp_path, CONFIG, 100, {})
    write("wandb", tmp_path, [row(100)])
    run_id = (tmp_path / "wandb_id.txt").read_text()
    (tmp_path / "report.html").write_text("<h1>ant</h1>")
    Image.new("RGB", (4, 4)).save(tmp_path / "final.gif")
    writer.upload(tmp_path, CONFIG, 100, {"report": tmp_path / "report.html", "video": tmp_path / "final.gif"})
    assert (tmp_path / "wandb_id.txt").read_text() == run_id
    first, second = wandb_files(tmp_path)
    assert b"report" in second and b"html-file" in second and b"videos-file" not in first
    media = [path.suffix for path in (tmp_path / "wandb").glob("offline-run-*/files/media/*/*")]
    assert sorted(media) == [".gif", ".html"]


def wandb_files(workdir) -> list[bytes]:
    """What W&B keeps of each start of the folder's run, oldest first."""
    importlib.import_module("wandb").teardown()  # its own process writes on for a moment
    run_id = (workdir / "wandb_id.txt").read_text().strip()
    return [path.read_bytes() for path in sorted((workdir / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))]
