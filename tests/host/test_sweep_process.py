"""The process of a run on a machine of a cluster: what it reports, and that no two train the same run. No Ray here."""

import os
import signal
from pathlib import Path

import pytest

from jaxrl.host import config as configs
from jaxrl.host.checkpoint import SCORE
from jaxrl.host.engines.ray import process
from jaxrl.host.engines.ray.process import Job, LostRunError, Process

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CLOCK = {"env.name": "clock", "env.episode_length": 5, "total_env_steps": 512, "writers": ("jsonl",)}


def job_of(folder, **overrides):
    """A job whose config lies where the driver would have put it."""
    config = configs.resolve(configs.load(str(HERE / "probe_experiment.py")), CLOCK | overrides)
    notes = folder / "ray"
    notes.mkdir(exist_ok=True)
    (notes / "run.json").write_text(configs.to_json(config))
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    return Job("run", str(folder / "run"), str(notes), config.total_env_steps, str(folder), environment)


def test_a_run_reports_its_evaluations_and_that_it_is_done(tmp_path):
    running = Process(job_of(tmp_path))
    reports = [running.report() for _ in range(3)]
    assert [report["env_steps"] for report in reports] == [0, 256, 512]
    assert [report[SCORE] for report in reports] == [5.0] * 3
    assert [report.get("ended") for report in reports] == [None, None, "done"]


def test_a_run_that_stops_by_itself_tells_why(tmp_path):
    running = Process(job_of(tmp_path, **{"stop.target_return": 4.0}))
    assert [running.report()["env_steps"] for _ in range(2)] == [0, 256]
    last = running.report()
    assert (last["ended"], last["env_steps"]) == ("stopped", 256)
    assert last["reason"] == "the evaluation reached config.stop.target_return=4"


def test_a_run_whose_keeper_dies_saves_before_another_goes_on_with_it(tmp_path, monkeypatch):
    # As where Slurm has started Ray: the run would wait for three others.
    slurm = {"JOB_ID": 1, "NTASKS": 4, "PROCID": 1, "LOCALID": 0, "STEP_NODELIST": "host[0-3]", "STEP_NUM_TASKS": 4}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    (tmp_path / "rules.py").write_text(
        "import signal, threading\n"
        "def wait(row):\n"
        "    catcher = signal.getsignal(signal.SIGTERM).__self__\n"
        "    while row['env_steps'] == 256 and not catcher.received:\n"
        "        threading.Event().wait(0.05)\n"
        "    return False\n"
    )
    job = job_of(tmp_path, **{"stop.predicate": "rules:wait"})
    first = Process(job)
    assert [first.report()["env_steps"] for _ in range(2)] == [0, 256]
    with pytest.raises(LostRunError, match="is held by another process"), process.locked(job.note("lock"), 0.0):
        pass
    first._child.stdin.close()  # as when the worker that started it is killed
    second = Process(job_of(tmp_path))  # waits for the lock
    assert first._child.wait() == 128 + signal.SIGTERM
    with pytest.raises(LostRunError, match="exit status 143"):
        first.report()
    last = next(report for report in iter(second.report, None) if "ended" in report)
    assert last["ended"] == "done" and "goes on from 256 env steps" in job.note("log").read_text()


def test_a_sweep_that_is_called_off_lets_the_run_save(tmp_path):
    job = job_of(tmp_path, total_env_steps=10**9)
    running = Process(job)
    assert running.report()["env_steps"] == 0
    (tmp_path / "ray" / process.STOP).touch()
    last = next(report for report in iter(running.report, None) if "ended" in report)
    assert last["ended"] == "interrupted" and last["env_steps"] > 0
    assert (tmp_path / "run" / "checkpoints" / str(last["env_steps"])).is_dir()


def test_a_config_that_this_machine_refuses_is_told_and_not_tried_again(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("not a run")
    last = Process(job_of(tmp_path)).report()
    assert last["ended"] == "interrupted" and "holds 'mine.txt'" in last["reason"]


def test_a_folder_that_is_not_shared_is_named(tmp_path):
    job = job_of(tmp_path)
    job.note("json").unlink()
    with pytest.raises(LostRunError, match="give a --workdir that all machines share"):
        Process(job)
