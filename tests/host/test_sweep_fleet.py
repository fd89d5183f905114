"""A sweep as its users meet it: each member is the run that it would be alone, whatever happens to the others."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.host import program, sharding
from jaxrl.host.sweeping import wave

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXPERIMENT = HERE / "probe_experiment.py"
RATES = {"ppo.learning_rate": [1e-4, 1e-3]}
SWEEP = "--sweep=ppo.learning_rate=1e-4,1e-3"
MEMBERS = [f"ppo.learning_rate={rate},seed={seed}" for rate in (0.0001, 0.001) for seed in (0, 1)]


def child(workdir, *arguments):
    """A sweep in a process of its own, on one device: (exit status, what it printed, its errors)."""
    environment = dict(os.environ, PYTHONPATH=f"{HERE.parent.parent}{os.pathsep}{workdir.parent}")
    done = subprocess.run(
        [sys.executable, str(HERE / "sweep_child.py"), str(workdir), *arguments],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def rows(workdir):
    """The rows of a run but for clocks and speeds."""
    written = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "wall_seconds" and not k.startswith("speed/")} for row in written]


def digests(workdir):
    """env_steps -> fingerprint of the whole TrainState, of every checkpoint on disk."""
    return {
        int(meta.parts[-3]): json.loads(meta.read_text())["meta"]["fingerprint"]
        for meta in workdir.glob("checkpoints/*/meta/metadata")
    }


def same(one, other):
    return rows(one) == rows(other) and digests(one) == digests(other)


def told(folder):
    return json.loads((folder / "sweep.json").read_text())["members"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep that nobody disturbed."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    return jaxrl.sweep(EXPERIMENT, folder, RATES, seeds=2)


def test_a_member_is_bit_for_bit_the_run_that_it_would_be_alone(whole, tmp_path):
    for number, (rate, seed) in enumerate([(1e-4, 0), (1e-3, 1)]):
        alone = jaxrl.train(EXPERIMENT, tmp_path / str(number), {"ppo.learning_rate": rate, "seed": seed})
        member = whole.workdir / f"ppo.learning_rate={rate},seed={seed}"
        assert same(member, alone.workdir)
        assert {2048, 2560} <= set(digests(member))
        assert (member / "config.json").read_text() == (alone.workdir / "config.json").read_text()
        assert (member / "metrics.csv").read_text().count("\n") == len(rows(member)) + 1


def test_members_are_not_each_other(whole):
    assert len({digests(folder)[2560] for folder in whole.folders}) == 4


def test_the_program_is_compiled_once_for_all_members(tmp_path, monkeypatch):
    compiled = []
    make = wave.compile
    monkeypatch.setattr(wave, "compile", lambda *arguments: compiled.append(arguments[2]) or make(*arguments))
    monkeypatch.setattr(program, "compile", lambda *_: pytest.fail("a member was compiled by itself"))
    jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", RATES, seeds=2, overrides={"total_env_steps": 256})
    assert compiled == [4]


def test_a_member_can_be_played_resumed_and_looked_at_like_any_run(whole, tmp_path):
    folder = whole.folders[0]
    assert jaxrl.load_policy(folder, "best") is not None
    assert len(jaxrl.train(folder / "config.json", folder).history) == 21  # done: nothing is left to train
    before = digests(folder)
    assert 2560 in before


def test_the_summary_ranks_settings_and_members_and_names_the_best(whole):
    summary = json.loads((whole.workdir / "summary.json").read_text())
    assert summary["best"] == whole.best.name == summary["settings"][0]["members"][0]
    assert [row["return"] for row in summary["members"]] == [3.0] * 4  # the fuse pays 3 whatever one does
    assert summary["settings"][0]["return_95"] == [3.0, 3.0]
    assert (whole.workdir / "summary.csv").read_text().splitlines()[0].startswith("member,ppo.learning_rate,seed,")
    assert {row["member"] for row in whole.table} == set(MEMBERS)
    assert list(whole.to_pandas()["status"]) == ["done"] * 4
    assert "ppo.learning_rate=0.0001" in str(whole) and "python -m jaxrl.play" in str(whole)


def test_a_sweep_that_is_done_stays_as_it_is(whole):
    before = [digests(folder) for folder in whole.folders]
    again = jaxrl.sweep(EXPERIMENT, whole.workdir, RATES, seeds=2)
    assert [digests(folder) for folder in whole.folders] == before
    assert again.table == whole.table


def test_waves_change_nothing_but_the_time(whole, tmp_path):
    experiment = [f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'waves'}", "--seeds=2", SWEEP]
    assert door(*experiment, "--wave=3") == 0
    for name in MEMBERS:
        assert same(tmp_path / "waves" / name, whole.workdir / name)


def door(*arguments):
    import importlib

    return importlib.import_module("jaxrl.sweep").main(list(arguments))


def test_a_sweep_killed_in_the_middle_of_saving_goes_on_bit_for_bit(whole, tmp_path):
    status, _, _ = child(tmp_path / "killed", SWEEP, "--seeds=2", "--kill-in-save", "1536")
    assert status != 0
    status, _, _ = child(tmp_path / "killed", "--kill-in-save", "1536", SWEEP, "--seeds=2")
    assert status == -signal.SIGKILL
    newest = {max(digests(tmp_path / "killed" / name), default=None) for name in MEMBERS}
    assert None not in newest and 2560 not in newest
    status, printed, errors = child(tmp_path / "killed", SWEEP, "--seeds=2")
    assert (status, errors) == (0, "")
    assert re.search(r"goes on from [\d, and]+ env steps", printed)
    for name in MEMBERS:
        assert same(tmp_path / "killed" / name, whole.workdir / name)


def test_a_signal_saves_every_member_and_ends_with_its_status(whole, tmp_path):
    (tmp_path / "rules.py").write_text(
        "import os, signal\n"
        "def interrupt(row):\n"
        "    if row['env_steps'] == 384:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return False\n"
    )
    # It sends a signal for each member, and a second one interrupts: one member.
    flags = ("--seeds=1", "--config.stop.predicate=rules:interrupt")
    status, printed, errors = child(tmp_path / "sweep", *flags)
    assert status == 128 + signal.SIGTERM, errors
    member = tmp_path / "sweep" / "seed=0"
    last = rows(member)[-1]["env_steps"]
    assert 384 <= last <= 768 and last in digests(member)
    assert told(tmp_path / "sweep")["seed=0"]["status"] == "interrupted"
    assert "interrupted" in printed


def test_members_that_stand_apart_catch_up_and_are_what_they_would_be(whole, tmp_path):
    # Saved at 1,280 and never begun: whoever lags goes first.
    jaxrl.train(EXPERIMENT, tmp_path / "sweep2" / MEMBERS[3], {"ppo.learning_rate": 1e-3, "seed": 1,
                                                               "total_env_steps": 1280})  # fmt: skip
    ledger = {"format_version": 1, "members": {}}
    (tmp_path / "sweep2" / "sweep.json").write_text(json.dumps(ledger))
    # A schedule that ends elsewhere is another run up to there, so the two are compared with each other.
    first = jaxrl.sweep(EXPERIMENT, tmp_path / "sweep2", RATES, seeds=2)
    assert {row["status"] for row in first.table} == {"done"}
    for name in MEMBERS[:3]:
        assert same(tmp_path / "sweep2" / name, whole.workdir / name)
    assert [row["env_steps"] for row in rows(tmp_path / "sweep2" / MEMBERS[3])] == list(range(0, 2561, 128))


def test_a_broken_member_stops_and_the_others_go_on(whole, tmp_path):
    values = {"ppo.value_cost": [1.0, 1e38]}
    overrides = {"ppo.max_gradient_norm": 0.0, "ppo.learning_rate": 1.0}
    done = jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", values, seeds=1, overrides=overrides)
    ends = {row["ppo.value_cost"]: row for row in done.table}
    assert ends[1.0]["status"] == "done" and ends[1e38]["status"] == "broken"
    broken = tmp_path / "sweep" / ends[1e38]["member"]
    assert None in rows(broken)[-1].values() and rows(broken)[-1]["env_steps"] < 2560
    assert all(step < rows(broken)[-1]["env_steps"] for step in digests(broken))
    assert "not finite" in ends[1e38]["reason"] and "broken" in str(done)
    assert done.best.name == ends[1.0]["member"]
    alone = jaxrl.train(EXPERIMENT, tmp_path / "alone", overrides)
    assert same(tmp_path / "sweep" / ends[1.0]["member"], alone.workdir)


def test_a_member_that_has_reached_its_target_stops_as_it_would_alone(tmp_path):
    target = {"stop.target_return": 2.5}
    done = jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", RATES, seeds=1, overrides=target)
    alone = jaxrl.train(EXPERIMENT, tmp_path / "alone", target | {"ppo.learning_rate": 1e-3})
    assert {row["status"] for row in done.table} == {"stopped"}
    assert same(tmp_path / "sweep" / "ppo.learning_rate=0.001,seed=0", alone.workdir)
    again = jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", RATES, seeds=1, overrides=target)
    assert again.table == done.table  # a member that has stopped stays so while its config is the same


# Eight fake devices.


def test_whole_members_on_each_device_are_the_runs_they_would_be_on_one(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        mesh = sharding.mesh
        patch.setattr(sharding, "mesh", lambda devices=None: jax.make_mesh((4,), ("data",), axis_types=(
            jax.sharding.AxisType.Auto,), devices=jax.devices()[:4]) if devices is None else mesh(devices))  # fmt: skip
        done = jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", RATES, seeds=2)
    for folder in done.folders:
        assert same(folder, whole.workdir / folder.name)


@pytest.mark.parametrize("mapping", ["map", "vmap"])
def test_devices_with_members_of_their_own_exchange_nothing(mapping, keys_unchecked_in_threads):
    config = jaxrl.configure(EXPERIMENT)
    mesh = sharding.mesh(jax.devices()[:2])
    hyper = jaxrl.build(config).algorithm.hyper
    built = wave.compile(config, hyper, 4, mesh, mapping)
    assert not re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute)", built.epoch.run.as_text())
    states = wave.put([wave.to_host(built.init(seed, hyper)) for seed in range(4)], built.place)
    assert states.actor.obs.sharding.shard_shape(states.actor.obs.shape)[:2] == (2, 16)
    before = np.asarray(jax.tree.leaves(states.agent.params)[0])
    states, metrics = built.epoch(states, built.put_numbers([1, 0, 2, 1], np.int32))
    assert list(np.asarray(states.iterations)) == [1, 0, 2, 1]
    after = np.asarray(jax.tree.leaves(states.agent.params)[0])
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False, False]
    assert metrics["loss/policy"].shape == (4,)


@pytest.mark.parametrize(
    "size, count, num_bytes, free, devices, expected",
    [
        (12, 12, 1200, 600, 1, 6),  # half of them fit
        (12, 12, 1200, 500, 1, 4),  # five would: three waves of four
        (7, 7, 700, 650, 1, 4),
        (32, 32, 3200, 2000, 8, 16),  # sixteen twice, two on each device
        (2, 2, 100, 10, 1, 1),  # not even one, as far as one can tell: it is tried
    ],
)
def test_waves_are_as_large_as_memory_allows_and_alike(size, count, num_bytes, free, devices, expected):
    assert wave.fitting(size, count, num_bytes, free, devices) == expected


def test_a_sweep_that_does_not_fit_is_cut_into_waves(whole, tmp_path, monkeypatch, capsys):
    asked = []
    make = wave.compile
    monkeypatch.setattr(wave, "compile", lambda *arguments: asked.append(arguments[2]) or make(*arguments))
    monkeypatch.setattr(wave, "free_bytes", lambda mesh: 100_000)
    monkeypatch.setattr(wave, "_bytes", lambda *_: 50_000 * asked[-1])
    jaxrl.sweep(EXPERIMENT, tmp_path / "sweep", RATES, seeds=2, overrides={"total_env_steps": 256})
    assert asked == [4, 2]  # and the two waves of two are one program
    assert "that does not fit: 2 members at a time" in capsys.readouterr().out
