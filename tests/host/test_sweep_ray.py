"""A sweep on a Ray cluster: machines die, runs fall behind, signals come; nothing is lost or trained twice."""

import contextlib
import importlib
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host.sweeping import members
from jaxrl.host.sweeping import sweep as sweeps
from jaxrl.types import ConfigError

EXPERIMENT = Path(__file__).parent / "probe_experiment.py"
# Ray starts its processes by a fork; that JAX warns of one is no fault of ours.
pytestmark = [pytest.mark.sweep, pytest.mark.filterwarnings("ignore:os.fork")]

# An episode of the clock pays 1 at each step until its end: the best length is the longest, whatever is learned.
CLOCK = {"env.name": "clock", "total_env_steps": 1024, "checkpoint.interval": 256, "writers": ("jsonl",)}

# What a run does at a row of its metrics, in place of the hours that a real one takes.
RULES = """
import os, pathlib, signal, threading

def until_asked_to_end():
    catcher = signal.getsignal(signal.SIGTERM).__self__
    while not catcher.received:
        threading.Event().wait(0.05)

def first_start_waits(row):
    if row["env_steps"] == 256:
        mark = pathlib.Path({folder!r}) / ("length" + str(int(row["eval/episode_return"])))
        if not mark.exists():
            mark.write_text(str(os.getpid()) + " " + os.environ["RAY_RAYLET_PID"])
    if row["env_steps"] == 512 and 1 < row["eval/episode_return"] < 4:
        mark = pathlib.Path({folder!r}) / ("length" + str(int(row["eval/episode_return"])))
        if mark.read_text().split()[0] == str(os.getpid()):
            until_asked_to_end()
    return False

def short_ones_wait(row):
    if row["env_steps"] == 512 and row["eval/episode_return"] < 8:
        until_asked_to_end()
    return False
"""


@pytest.fixture(scope="module")
def cluster():
    """A node with room for one run."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        yield made
        made.shutdown()


NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(autouse=True)
def rules(tmp_path, monkeypatch):
    """The module `rules`, which runs find too."""
    (tmp_path / "rules.py").write_text(RULES.format(folder=str(tmp_path)))
    monkeypatch.syspath_prepend(tmp_path)


def conduct(cluster, folder, lengths, say=lambda line: None, samples=0, rule="", **options):
    """A sweep over the length of the clock's episodes."""
    overrides = {**CLOCK, "stop.predicate": f"rules:{rule}" if rule else ""}
    axes = {"env.episode_length": members.axis("env.episode_length", lengths)}
    request = members.Request(configs.load(str(EXPERIMENT)), overrides, axes, samples=samples)
    return sweeps.conduct(request, folder, ["test"], "ray", {"address": cluster.address, **options}, say=say)


def steps(folder):
    return [json.loads(line)["env_steps"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def starts(folder):
    return len(json.loads((folder / "run.json").read_text())["starts"])


def wait_for_a_checkpoint(folder):
    """Until one is on disk whole: a run writes them beside what it computes."""
    while not any(path.name.isdecimal() for path in (folder / "checkpoints").glob("*")):
        threading.Event().wait(0.05)


def told(folder):
    return json.loads((folder / "sweep.json").read_text())["members"]


def test_a_sweep_that_loses_a_machine_and_a_process_completes_and_finds_the_best(cluster, tmp_path):
    spare = cluster.add_node(**NODE)
    (raylet,) = [started.process.pid for started in spare.all_processes["raylet"]]
    lines, folder = [], tmp_path / "sweep"

    def say(line):
        lines.append(line)
        waiting = [line for line in lines if re.search("=[23],.*: 512 env steps", line)]
        if len(waiting) == 2 and not lost:
            marks = [(tmp_path / f"length{length}").read_text().split() for length in (2, 3)]
            lost.extend(int(home) == raylet for _, home in marks)
            for length in (2, 3):
                wait_for_a_checkpoint(folder / f"env.episode_length={length},seed=0")
            (elsewhere,) = [int(pid) for pid, home in marks if int(home) != raylet]
            os.kill(elsewhere, signal.SIGKILL)
            cluster.remove_node(spare, allow_graceful=False)

    lost = []
    done = conduct(cluster, folder, [2, 3, 5, 6, 1, 4], say, rule="first_start_waits", scheduler="none")
    assert sorted(lost) == [False, True]  # one of the two that waited was on the machine that died
    assert [row["status"] for row in done.table] == ["done"] * 6
    assert done.best.name == "env.episode_length=6,seed=0" and done.table[0]["return"] == 6.0
    assert sum("lost (the process ended with signal 9" in line for line in lines) == 1
    assert sum("lost (its machine or its worker died)" in line for line in lines) == 1
    for length in (2, 3):
        member = folder / f"env.episode_length={length},seed=0"
        log = (folder / "ray" / f"{member.name}.log").read_text()
        assert starts(member) == 2 and re.search("goes on from (256|512) env steps", log)
        assert steps(member) == list(range(0, 1025, 128))  # each row once, as if nothing had happened
    assert [starts(folder / f"env.episode_length={length},seed=0") for length in (5, 6, 1, 4)] == [1] * 4
    assert "ray" not in {row["member"] for row in done.table} and not (folder / "ray" / "tune").exists()


def test_a_run_behind_the_others_is_stopped_early_and_stays_so(cluster, tmp_path):
    options = {"rule": "short_ones_wait", "grace_env_steps": 256, "reduction_factor": 2.0}
    done = conduct(cluster, tmp_path / "sweep", [8, 6], **options)
    ends = told(tmp_path / "sweep")
    assert ends["env.episode_length=8,seed=0"]["status"] == "done"
    behind = ends["env.episode_length=6,seed=0"]
    assert behind["status"] == "stopped" and behind["reason"].startswith("asha")
    assert 256 <= behind["env_steps"] <= 512  # it was behind at 256, and may have come a little further meanwhile
    assert (tmp_path / "sweep" / "env.episode_length=6,seed=0" / "checkpoints" / str(behind["env_steps"])).is_dir()
    lines = []
    # What has ended is not trained again, and a later run is measured by it: 5 is behind what the first call saw.
    done = conduct(cluster, tmp_path / "sweep", [8, 6, 5], lines.append, **options)
    assert [row["status"] for row in done.table] == ["done", "stopped", "stopped"]
    assert any("2 of 3 members have ended before" in line for line in lines)
    assert [starts(folder) for folder in done.folders] == [1, 1, 1]


def test_a_study_in_a_database_goes_on_where_it_was(cluster, tmp_path):
    import optuna
    import sqlalchemy

    storage = f"sqlite:///{tmp_path}/study.db"
    for samples in (2, 3):
        done = conduct(cluster, tmp_path / "lengths", "uniform(2,9)", samples=samples, storage=storage)
        database = optuna.storages.RDBStorage(storage, engine_kwargs={"poolclass": sqlalchemy.pool.NullPool})
        study = optuna.load_study(study_name="lengths", storage=database)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * samples
        assert [trial.value for trial in study.trials] == [trial.params["env.episode_length"] for trial in study.trials]
        assert len(done.table) == samples and study.best_value == done.table[0]["return"]
    assert [starts(folder) for folder in done.folders] == [1] * 3


def test_a_signal_lets_every_run_save_and_the_same_command_goes_on(cluster, tmp_path):
    def say(line):
        if ": 512 env steps" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    done = conduct(cluster, tmp_path / "sweep", [3, 2], say, rule="short_ones_wait", scheduler="none")
    assert done.signal == signal.SIGTERM
    waiting = told(tmp_path / "sweep")["env.episode_length=3,seed=0"]
    assert (waiting["status"], waiting["env_steps"]) == ("interrupted", 512)
    done = conduct(cluster, tmp_path / "sweep", [3, 2], scheduler="none")
    assert (done.signal, [row["status"] for row in done.table]) == (0, ["done", "done"])
    member = tmp_path / "sweep" / "env.episode_length=3,seed=0"
    assert starts(member) == 2 and steps(member) == list(range(0, 1025, 128))


def test_a_second_driver_of_the_same_folder_is_refused(cluster, tmp_path):
    def say(line):
        if ": 256 env steps" in line:
            with pytest.raises(ConfigError, match="is being swept by another process"):
                conduct(cluster, tmp_path / "sweep", [8])
            refused.append(line)

    refused = []
    conduct(cluster, tmp_path / "sweep", [8], say)
    assert len(refused) == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--gpus_per_trial=1"], "--gpus_per_trial=1 is more than any machine of the cluster has (0 GPU)"),
        (["--cpus_per_trial=64"], "--cpus_per_trial=64 is more than any machine of the cluster has"),
        (["--cpus_per_trial=0"], "leave a trial nothing to run on"),
        (["--address=127.0.0.1:1"], "--address=127.0.0.1:1 has no Ray cluster"),
        (["--address=ray://here:1"], "--address=ray://here:1 is none; give HOST:PORT"),
        (["--sweep=env.episode_length=uniform(2,9)", "--samples=2", "--storage=nosuch://db"], "--storage=nosuch://db"),
    ],
)
def test_what_would_wait_for_ever_is_one_line_and_status_2(cluster, flags, message, tmp_path, capsys):
    door = importlib.import_module("jaxrl.sweep")
    address = [] if any("--address" in flag for flag in flags) else [f"--address={cluster.address}"]
    own = [f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'sweep'}", "--engine=ray"]
    with contextlib.chdir(tmp_path):
        assert door.main([*own, *address, *flags]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors
