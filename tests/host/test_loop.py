"""The training loop as its users meet it: whole runs, killed runs, runs that stop early."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrl
from jaxrl.host import checkpoint, guard, loop

HERE = Path(__file__).parent
EXPERIMENT = HERE / "probe_experiment.py"


def child(workdir, *arguments):
    """A run in a process of its own, on one device: (exit status, what it printed, its errors)."""
    environment = dict(os.environ, PYTHONPATH=str(HERE.parent.parent))
    done = subprocess.run(
        [sys.executable, str(HERE / "train_child.py"), str(workdir), *arguments],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def digests(workdir):
    """env_steps -> fingerprint of the whole TrainState, of every checkpoint on disk."""
    found = {}
    for meta in workdir.glob("checkpoints/*/meta/metadata"):
        found[int(meta.parts[-3])] = json.loads(meta.read_text())["meta"]["fingerprint"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    status, printed, errors = child(workdir)
    assert (status, errors) == (0, "")
    return workdir, printed


def test_a_run_says_what_it_does_and_what_it_reached(whole):
    workdir, printed = whole
    for line in (
        r"jaxrl trains fuse \(probe\) on 1 x cpu",
        r"compiling \.\.\.",
        r"compiled in [\d.]+ s; \d+ parameters",
    ):
        assert re.search(line, printed)
    assert re.search(
        r"2,560 env steps in \d+ s: evaluation return 3\.0 ± 0\.0 over 8 episodes; curves in \S+png", printed
    )
    assert (workdir / "plots" / "training.png").stat().st_size > 10_000


def test_a_run_leaves_its_config_its_versions_and_a_row_for_every_epoch(whole):
    workdir, _ = whole
    assert json.loads((workdir / "config.json").read_text())["ppo"]["num_envs"] == 16
    assert json.loads((workdir / "run.json").read_text())["devices"]["count"] == 1
    written = rows(workdir)
    assert [row["env_steps"] for row in written] == list(range(0, 2561, 128))
    assert [row["env_steps"] for row in written if "eval/episode_return" in row] == list(range(0, 2561, 256))
    assert all(a["wall_seconds"] <= b["wall_seconds"] for a, b in zip(written, written[1:], strict=False))
    for name in ("rollout/episode_return", "loss/policy", "update/kl", "speed/env_steps_per_second"):
        assert all(name in row for row in written[1:])


def timeless(rows):
    """The rows but for clocks and speeds."""
    return [{k: v for k, v in row.items() if k != "wall_seconds" and not k.startswith("speed/")} for row in rows]


@pytest.mark.parametrize("killed_at", [512, 1536])
def test_a_run_killed_in_the_middle_of_saving_goes_on_bit_for_bit(whole, tmp_path, killed_at):
    workdir = tmp_path / "killed"
    status, _, _ = child(workdir, "--kill-in-save", str(killed_at))
    assert status == -signal.SIGKILL
    assert killed_at not in digests(workdir)
    assert list((workdir / "checkpoints").glob(f"{killed_at}*tmp*"))

    status, printed, errors = child(workdir)
    assert (status, errors) == (0, "")
    if killed_at > 512:
        assert re.search(r"goes on from [\d,]+ env steps", printed)
    assert digests(workdir)[2560] == digests(whole[0])[2560]
    assert timeless(rows(workdir)) == timeless(rows(whole[0]))
    csv = (workdir / "metrics.csv").read_text().splitlines()
    assert len(csv) == 1 + len(rows(workdir))


def test_a_run_that_is_done_stays_as_it_is(whole):
    workdir, _ = whole
    before = (workdir / "metrics.jsonl").read_bytes(), digests(workdir)
    status, printed, errors = child(workdir)
    assert (status, errors) == (0, "")
    assert "2,560 env steps" in printed
    assert ((workdir / "metrics.jsonl").read_bytes(), digests(workdir)) == before


def test_it_keeps_the_latest_checkpoints_and_the_best(whole):
    workdir, _ = whole
    steps = set(digests(workdir))
    assert {2048, 2560} <= steps
    assert len(steps) <= 3


def test_another_config_in_the_same_workdir_is_refused(whole):
    workdir, _ = whole
    status, printed, errors = child(workdir, "--config.ppo.gamma=0.5")
    assert (status, printed) == (2, "")
    assert re.fullmatch(r"error: config\.ppo\.gamma=0\.5 .*new --workdir \(docs/reference\.md#ppo\)\n", errors)


def train(workdir, **overrides):
    return jaxrl.train(EXPERIMENT, workdir, overrides)


def test_a_longer_total_goes_on_from_the_end(tmp_path):
    train(tmp_path / "run", total_env_steps=512)
    run = train(tmp_path / "run", total_env_steps=768)
    assert run.env_steps == 768
    assert [row["env_steps"] for row in run.history] == list(range(0, 769, 128))


def test_it_stops_at_the_target_return(tmp_path):
    run = train(tmp_path / "run", **{"stop.target_return": 2.5})
    assert run.env_steps < 2560
    assert "stop.target_return=2.5" in run.reason


def test_it_stops_when_the_predicate_holds(tmp_path, monkeypatch):
    (tmp_path / "rules.py").write_text("def enough(row):\n    return row['env_steps'] >= 640\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = train(tmp_path / "run", **{"stop.predicate": "rules:enough"})
    assert 640 <= run.env_steps <= 640 + 2 * 128  # the epoch under way is finished
    assert run.history[-1]["env_steps"] == run.env_steps
    assert run.env_steps in digests(tmp_path / "run")


def test_it_stops_at_the_time_limit(tmp_path):
    run = train(tmp_path / "run", **{"stop.wall_clock_limit_s": 0.0})
    assert run.env_steps < 2560
    assert "wall_clock_limit_s" in run.reason


def test_a_predicate_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(jaxrl.types.ConfigError, match="config.stop.predicate='nowhere:f' cannot be imported"):
        train(tmp_path / "run", **{"stop.predicate": "nowhere:f"})
    assert not (tmp_path / "run").exists()


def test_a_signal_saves_and_ends_with_its_status(tmp_path):
    (tmp_path / "rules.py").write_text(
        "import os, signal\n"
        "def interrupt(row):\n"
        "    if row['env_steps'] == 384:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return False\n"
    )
    environment = dict(os.environ, PYTHONPATH=f"{HERE.parent.parent}{os.pathsep}{tmp_path}")
    command = [
        sys.executable,
        str(HERE / "train_child.py"),
        str(tmp_path / "run"),
        "--config.stop.predicate=rules:interrupt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    last = rows(tmp_path / "run")[-1]["env_steps"]
    assert 384 <= last <= 384 + 3 * 128
    assert last in digests(tmp_path / "run")


def test_a_number_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(guard.NonFiniteError, match="not finite at [\\d,]+ env steps"):
        train(tmp_path / "run", **{"ppo.learning_rate": 1.0, "ppo.value_cost": 1e38, "ppo.max_gradient_norm": 0.0})
    config = jaxrl.configure(EXPERIMENT).checkpoint
    saved = checkpoint.Checkpointer(tmp_path / "run" / "checkpoints", config).steps()
    broken = [row["env_steps"] for row in rows(tmp_path / "run") if None in row.values()]
    assert all(step < broken[0] for step in saved)


def test_a_resumed_run_keeps_the_plan():
    plan = loop.plan(jaxrl.configure(EXPERIMENT), 64)
    lengths, done = [], 0
    while done < plan.iterations:
        lengths.append(plan.next_length(done))
        done += lengths[-1]
    assert lengths == [2] * 20
    assert [n for n in range(2, 41, 2) if plan.is_due(n, plan.save_every)] == [8, 16, 24, 32, 40]


def test_the_last_epoch_is_as_long_as_what_is_left():
    plan = loop.plan(jaxrl.configure(EXPERIMENT, {"epoch_iterations": 12}), 64)
    assert [plan.next_length(done) for done in (0, 12, 24, 36)] == [12, 12, 12, 4]
