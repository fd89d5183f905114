"""A population as its users meet it: who descends from whom is on disk, and a kill changes nothing."""

import csv
import json
import shutil
import signal

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.host import checkpoint, sharding
from jaxrl.host.sweeping import groups, wave
from jaxrl.types import ConfigError
from tests.host.test_sweep_fleet import EXPERIMENT, child, digests, door, rows, told

pytestmark = pytest.mark.slow

RANGES = {"ppo.learning_rate": "loguniform(1e-4,1e-2)", "ppo.entropy_cost": "loguniform(1e-4,1e-1)"}
SWEEP = f"--sweep={' '.join(f'{name}={range_}' for name, range_ in RANGES.items())}"
TARGET = {"env.name": "target", "checkpoint.keep_latest": 9}
FLAGS = [SWEEP, "--samples=4", "--pbt=512", *(f"--config.{name}={value}" for name, value in TARGET.items())]
EXPLOITS = [512, 1024, 1536, 2048]  # the run is 2,560 env steps


def train(folder, **options):
    options = {"sweep": RANGES, "samples": 4, "pbt": 512, "overrides": TARGET} | options
    return jaxrl.sweep(EXPERIMENT, folder, **options)


def lineage(folder):
    with open(folder / "lineage.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return list(told(folder))


def assert_same(one, other):
    """Two populations are the same: rows and whole states of every member, and the record of exploits."""
    assert (one / "lineage.csv").read_text() == (other / "lineage.csv").read_text()
    assert names(one) == names(other)
    for name in names(one):
        assert rows(one / name) == rows(other / name)
        assert digests(one / name) == digests(other / name)


@pytest.fixture(scope="module")
def one_program():
    """Whoever trains the same again compiles nothing: programs are known by their config, size and devices."""
    known, compile, split = {}, wave.compile, groups.split

    def once(config, hyper, size, mesh, mapping):
        told = config.to_dict()
        key = str([told[name] for name in ("env", "eval", "network", "total_env_steps")]), size, mesh, mapping
        if key not in known:
            known[key] = compile(config, hyper, size, mesh, mapping)
        return known[key]

    def is_one(member):
        return {*member.changes} == {*RANGES, "seed"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wave, "compile", once)
        patch.setattr(groups, "split", lambda crew: [crew] if all(map(is_one, crew)) and crew else split(crew))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_program):
    """A population that nobody disturbed."""
    return train(tmp_path_factory.mktemp("populations") / "whole")


def test_the_record_says_what_each_exploit_made_of_each_member(whole):
    record = lineage(whole.workdir)
    assert [int(row["env_steps"]) for row in record] == [step for step in EXPLOITS for _ in range(4)]
    for step in EXPLOITS:
        now = {row["member"]: row for row in record if int(row["env_steps"]) == step}
        by_score = sorted(now.values(), key=lambda row: float(row["score"]))
        # A fifth of four, rounded up, is one: the worst became a copy of the best.
        assert [row["member"] for row in now.values() if row["parent"] != row["member"]] == [by_score[0]["member"]]
        assert by_score[0]["parent"] == by_score[-1]["member"]
        for name, low, high in (("ppo.learning_rate", 1e-4, 1e-2), ("ppo.entropy_cost", 1e-4, 1e-1)):
            for row in now.values():
                before = float((row if row["parent"] == row["member"] else now[row["parent"]])[f"{name} before"])
                assert row is by_score[0] or float(row[name]) == before
                assert low * 0.999 <= float(row[name]) <= high * 1.001


def test_rows_of_metrics_tell_the_numbers_and_the_descent(whole):
    record, order = lineage(whole.workdir), names(whole.workdir)
    for number, name in enumerate(order):
        parent, copies = number, 0
        held = {row["env_steps"]: row for row in rows(whole.workdir / name)}
        for step in EXPLOITS:
            row = next(row for row in record if int(row["env_steps"]) == step and row["member"] == name)
            assert held[step]["eval/episode_return"] == float(row["score"])
            assert held[step]["hyper/learning_rate"] == float(row["ppo.learning_rate before"])
            assert held[step + 128]["hyper/learning_rate"] == float(row["ppo.learning_rate"])
            assert held[step + 128]["hyper/entropy_cost"] == float(row["ppo.entropy_cost"])
            assert (held[step]["population/parent"], held[step]["population/exploits"]) == (parent, copies)
            if row["parent"] != name:
                parent, copies = order.index(row["parent"]), copies + 1
            assert (held[step + 128]["population/parent"], held[step + 128]["population/exploits"]) == (parent, copies)


def test_a_rate_that_a_schedule_lowers_is_the_rate_that_was_copied_times_that(whole):
    # The experiment lowers the rate linearly to 0: at the end of an epoch the last update was one iteration earlier.
    for row in rows(whole.folders[0])[1:]:
        share = 1 - (row["env_steps"] - 96) / 2560  # mean progress of the epoch's two updates, of 64 steps each
        assert row["update/learning_rate"] == pytest.approx(row["hyper/learning_rate"] * share, rel=1e-4)


def restored(folder, name, step):
    """The agent of a checkpoint, as arrays by path."""
    reader = checkpoint.Checkpointer(folder / name / "checkpoints", checkpoint.default_config())
    return {leaf.path: leaf.data for leaf in reader._read(step)[0]}


def test_a_copy_has_all_that_its_parent_learned_and_keeps_its_own_environments_and_key(whole):
    (copy,) = [row for row in lineage(whole.workdir) if row["env_steps"] == "1024" and row["parent"] != row["member"]]
    mine, theirs = (restored(whole.workdir, copy[who], 1024) for who in ("member", "parent"))
    differ = {path for path in mine if not np.array_equal(mine[path], theirs[path])}
    swept = {".agent.hyper.learning_rate", ".agent.hyper.entropy_cost"}
    assert {path for path in differ if path.startswith(".agent")} <= swept
    assert mine[".agent.hyper.learning_rate"] == np.float32(copy["ppo.learning_rate"])
    assert ".key" in differ and any(path.startswith(".actor.env_state") for path in differ)
    assert any(path.startswith(".agent.optimizer") for path in mine)
    kept = next(meta for meta in whole.workdir.glob(f"{copy['member']}/checkpoints/1024/meta/metadata"))
    parents = next(meta for meta in whole.workdir.glob(f"{copy['parent']}/checkpoints/1024/meta/metadata"))
    score, best = (json.loads(each.read_text())["meta"]["metrics"]["eval/episode_return"] for each in (kept, parents))
    assert score == best  # what the checkpoint holds was measured as its parent


def test_a_population_that_is_done_stays_as_it_is(whole):
    before = [digests(folder) for folder in whole.folders]
    again = train(whole.workdir)
    assert again.table == whole.table and [digests(folder) for folder in whole.folders] == before


def test_killed_in_the_middle_of_an_exploits_saves_it_goes_on_bit_for_bit(whole, tmp_path):
    status, _, errors = child(tmp_path / "killed", "--kill-in-save", "1024", *FLAGS)
    assert status == -signal.SIGKILL, errors
    assert {row["env_steps"] for row in lineage(tmp_path / "killed")} == {"512", "1024"}  # before any save
    assert {max(digests(tmp_path / "killed" / name)) for name in names(tmp_path / "killed")} <= {512, 768, 1024}
    status, printed, errors = child(tmp_path / "killed", *FLAGS)
    assert (status, errors) == (0, "") and "goes on from" in printed
    assert_same(tmp_path / "killed", whole.workdir)


def test_a_signal_saves_all_and_the_same_command_goes_on_bit_for_bit(whole, tmp_path):
    (tmp_path / "rules.py").write_text(
        "import os, signal\n"
        "def interrupt(row):\n"
        "    if row['env_steps'] == 1152 and row['population/parent'] == 0 and not os.path.exists('%s'):\n"
        "        open('%s', 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return False\n" % ((tmp_path / "sent",) * 2)
    )
    flags = [*FLAGS, "--config.stop.predicate=rules:interrupt"]
    status, printed, errors = child(tmp_path / "sweep", *flags)
    assert status == 128 + signal.SIGTERM, errors
    assert {entry["status"] for entry in told(tmp_path / "sweep").values()} == {"interrupted"}
    status, _, errors = child(tmp_path / "sweep", *flags)
    assert (status, errors) == (0, "")
    # One checkpoint more: where the signal came.
    for name in names(whole.workdir):
        assert rows(tmp_path / "sweep" / name) == rows(whole.workdir / name)
        assert digests(whole.workdir / name).items() <= digests(tmp_path / "sweep" / name).items()
    assert (tmp_path / "sweep" / "lineage.csv").read_text() == (whole.workdir / "lineage.csv").read_text()


def forget(folder, limits):
    """A copy of a finished population in which each member has lost its checkpoints after so many env steps."""
    book = json.loads((folder / "sweep.json").read_text())
    for (name, entry), limit in zip(book["members"].items(), limits, strict=True):
        entry["status"] = "waiting"
        for step in digests(folder / name):
            if step > limit:
                shutil.rmtree(folder / name / "checkpoints" / str(step))
    (folder / "sweep.json").write_text(json.dumps(book))


@pytest.mark.parametrize(
    "limits",
    [
        (512, 1024, 512, 1024),  # the exploit at 1024 is before two of them and behind the others
        (1024, 512, 1024, 512),
        (2560, 768, 2560, 1024),  # two have checkpoints of a future that the others have not seen: they fall back
        (0, 512, 512, 512),  # one begins anew, the others have been through the first exploit
        (2560, 2560, 2560, 2560),  # killed after the last save, before that was noted
    ],
)
def test_members_that_an_exploit_separates_are_brought_together_again(whole, tmp_path, limits):
    folder = tmp_path / "population"
    shutil.copytree(whole.workdir, folder)
    forget(folder, limits)
    done = train(folder)
    assert {row["status"] for row in done.table} == {"done"}
    assert_same(folder, whole.workdir)


def test_what_can_no_longer_be_brought_together_is_refused(whole, tmp_path):
    folder = tmp_path / "population"
    shutil.copytree(whole.workdir, folder)
    forget(folder, (512, 2560, 2560, 2560))
    other = folder / names(folder)[1]
    for step in [step for step in digests(other) if step <= 1024]:
        shutil.rmtree(other / "checkpoints" / str(step))
    with pytest.raises(ConfigError, match=r"has lost its checkpoints after 512 env steps.* give a new --workdir"):
        train(folder)
    shutil.copytree(whole.workdir / other.name / "checkpoints" / "1024", other / "checkpoints" / "1024")
    (folder / "lineage.csv").unlink()
    with pytest.raises(ConfigError, match="lineage.csv lacks the exploit at 1024 env steps"):
        train(folder)
    (folder / "lineage.csv").write_text("env_steps\n512\n")
    with pytest.raises(ConfigError, match="lineage.csv cannot be read"):
        train(folder)


def test_another_population_does_not_go_on_in_the_same_folder(whole, tmp_path):
    folder = tmp_path / "population"
    shutil.copytree(whole.workdir, folder)
    for options, message in (
        ({"pbt": 256}, r"--pbt is not what the population .* began with \(512\)"),
        ({"pbt": {"interval": 512, "fraction": 0.5}}, r"--pbt_fraction is not what .* \(0.2\)"),
        ({"samples": 5}, "--sweep is not what"),
        ({"pbt": None}, "began with --pbt; give the command that it began with"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(folder, **options)
    assert_same(folder, whole.workdir)


def test_on_four_devices_it_is_the_population_that_it_is_on_one(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        mesh = sharding.mesh(jax.devices()[:4])
        patch.setattr(sharding, "mesh", lambda devices=None: mesh)
        train(tmp_path / "population")
    assert_same(tmp_path / "population", whole.workdir)


def test_a_member_that_breaks_becomes_a_copy_of_a_sound_one(tmp_path):
    sweep = {"ppo.value_cost": [1.0, 1.1, 1e38], "ppo.learning_rate": [0.9]}
    overrides = TARGET | {"ppo.max_gradient_norm": 0.0}
    done = train(
        tmp_path / "population", sweep=sweep, samples=0, overrides=overrides, pbt={"interval": 512, "resample": 0}
    )
    ends = {row["ppo.value_cost"]: row for row in done.table}
    weak = ends[1e38]
    assert weak["population/exploits"] >= 1 and weak["status"] == "done"
    first = next(row for row in lineage(done.workdir) if row["member"] == weak["member"])
    assert first["score"] == "nan" and first["parent"] != weak["member"]
    assert 0.8 <= float(first["ppo.value_cost"]) <= 1.4
    told = rows(done.workdir / weak["member"])
    assert any(None in row.values() for row in told if row["env_steps"] <= 512)
    assert not any(None in row.values() for row in told if row["env_steps"] > 512)
    assert {512, 2560} <= set(digests(done.workdir / weak["member"])) and 256 not in digests(
        done.workdir / weak["member"]
    )


def test_a_reason_to_stop_is_one_for_all(whole, tmp_path):
    past = [row["eval/episode_return"] for row in rows(whole.folders[0]) if "eval/episode_return" in row]
    others = [
        row["eval/episode_return"] for each in whole.folders[1:] for row in rows(each) if row.get("eval/episode_return")
    ]
    target = max(past[1:] + others)
    done = train(tmp_path / "population", overrides=TARGET | {"stop.target_return": target})
    assert {row["status"] for row in done.table} == {"stopped"} and len({row["env_steps"] for row in done.table}) == 1
    (reached,) = [row for row in done.table if row["best_return"] == target]
    assert sum(row["reason"].startswith("the evaluation reached") for row in done.table) == 1
    assert all(reached["member"] in row["reason"] for row in done.table if row is not reached)
    again = train(tmp_path / "population", overrides=TARGET | {"stop.target_return": target})
    assert again.table == done.table


def test_the_summary_has_the_numbers_at_the_end_and_the_ancestors(whole):
    summary = json.loads((whole.workdir / "summary.json").read_text())
    copies = [row for row in lineage(whole.workdir) if row["parent"] != row["member"]]
    for row in summary["members"]:
        mine = [copy for copy in copies if copy["member"] == row["member"]]
        assert row["population/exploits"] == len(mine)
        assert row["hyper/learning_rate"] == rows(whole.workdir / row["member"])[-1]["hyper/learning_rate"]
        ancestors = summary["ancestors"][row["member"]]
        assert (ancestors[-1] if ancestors else None) == (
            [int(mine[-1]["env_steps"]), mine[-1]["parent"]] if mine else None
        )
    assert whole.best.name == whole.table[0]["member"] and len(whole.settings) == 1
    assert "copied" in str(whole) and "jaxrl.train" not in str(whole)


def test_without_evaluation_members_are_compared_by_the_episodes_that_they_trained_in(tmp_path, one_program):
    done = train(tmp_path / "population", overrides=TARGET | {"eval.episodes": 0, "total_env_steps": 1024}, pbt=300)
    record = lineage(done.workdir)
    assert {row["env_steps"] for row in record} == {"256", "512", "768"}  # whole epochs of 128 env steps
    held = {row["env_steps"]: row for row in rows(done.workdir / record[0]["member"])}
    assert float(record[0]["score"]) == held[256]["rollout/episode_return"]


def test_a_population_that_does_not_fit_is_refused_in_one_line(tmp_path, one_program, monkeypatch):
    monkeypatch.setattr(wave, "free_bytes", lambda mesh: 1)
    with pytest.raises(ConfigError, match=r"a population of 4 needs .* MB at once.*; take about 1 members, fewer"):
        train(tmp_path / "population")
    assert door(f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'waves'}", *FLAGS, "--wave=2") == 2


def test_the_door_draws_the_family_tree(whole, tmp_path, capsys):
    shutil.copytree(whole.workdir, tmp_path / "population")
    assert door(f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'population'}", *FLAGS) == 0
    assert (tmp_path / "population" / "plots" / "lineage.png").stat().st_size > 20_000
    assert "lineage in" in capsys.readouterr().out


@pytest.mark.parametrize(
    "pbt, message",
    [
        ({"interval": 512, "fracton": 0.3}, "'fracton'.* did you mean 'fraction'"),
        ({"fraction": 0.3}, "pbt has no 'interval'"),
        ({"interval": 512, "perturb": ("wide",)}, "--pbt_perturb=.* must be factors above 0"),
        ({"interval": 512, "perturb": 0}, "--pbt_perturb=.* must be factors above 0"),
        ("often", "--pbt='often' must be a number of env steps"),
        (0.5, "--pbt=0.5 must be a number of env steps"),
    ],
)
def test_what_python_asks_of_a_population_is_checked_too(pbt, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "population", pbt=pbt, overrides=TARGET | {"total_env_steps": 2048})
    assert not (tmp_path / "population").exists()


def test_each_member_has_a_seed_of_its_own_unless_one_says_which(whole):
    assert [entry["seed"] for entry in told(whole.workdir).values()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "sweep, message",
    [
        ({"ppo.obs_clip": [5.0, 10.0]}, r"--pbt cannot change ppo.obs_clip while .* sweep any of ppo.learning_rate,"),
        ({"ppo.rnd_weight": [0.0, 0.5]}, r"ppo.rnd_weight=0.0 is another than ppo.rnd_weight=0.5"),
    ],
)
def test_members_of_several_programs_are_refused_by_the_key(sweep, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        train(tmp_path / "population", sweep=sweep, samples=0)
    assert "\n" not in str(caught.value)
    # Nothing has begun: the folder takes the command that is corrected.
    told = json.loads((tmp_path / "population" / "sweep.json").read_text())
    assert {entry["status"] for entry in told["members"].values()} == {"waiting"}
