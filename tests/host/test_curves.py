"""Runs that belong together share a curve, over what all of them have measured, and the numbers drawn can be had."""

import csv
import json

import numpy as np
import pytest

from jaxrl import plot
from jaxrl.host import curves, figures
from jaxrl.types import ConfigError


def write(folder, steps=(0, 100, 200), offset=0.0, seconds=1.0, **changes):
    """A run whose evaluation returns are env_steps + offset; an update is 10 env steps."""
    folder.mkdir(parents=True)
    config = {"env": {"suite": "brax", "name": "ant", "backend": "spring"}, "seed": 0, "writers": ["jsonl"]}
    config |= {"ppo": {"learning_rate": 1e-3, "gamma": 0.99}}
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (config[group] if group else config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    rows = [
        {"env_steps": at, "wall_seconds": 5 + at * seconds, "eval/episode_return": at + offset,
         "update/iterations": at // 10, "rollout/episode_return": at + offset}
        for at in steps
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def groups(folder, group="config"):
    runs = [curves.read(run) for run in curves.find_runs([folder])]
    return {label: [run.folder.name for run in members] for label, members in curves.grouped(runs, group).items()}


@pytest.fixture
def sweep(tmp_path):
    """Two seeds of two learning rates, logged differently."""
    for rate in (1e-3, 3e-3):
        for seed in (0, 1):
            changes = {"seed": seed, "ppo__learning_rate": rate, "writers": ["jsonl", "csv"][: seed + 1]}
            write(tmp_path / "sweep" / f"{rate}_{seed}", offset=seed + 1000 * rate, **changes)
    return tmp_path / "sweep"


def test_runs_that_differ_in_seed_and_logging_share_a_curve_named_by_what_differs(sweep):
    assert groups(sweep) == {
        "ppo.learning_rate=0.001": ["0.001_0", "0.001_1"],
        "ppo.learning_rate=0.003": ["0.003_0", "0.003_1"],
    }


def test_any_key_groups_by_its_last_word_too(sweep):
    assert list(groups(sweep, "learning_rate")) == list(groups(sweep))
    assert groups(sweep, "seed") == {"seed=0": ["0.001_0", "0.003_0"], "seed=1": ["0.001_1", "0.003_1"]}
    assert len(groups(sweep, "seed,ppo.learning_rate")) == 4
    with pytest.raises(ConfigError, match=r"--group=ppo.gama is neither .*ppo.gamma"):
        groups(sweep, "ppo.gama")


def test_another_task_is_another_curve_with_its_name(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", env__suite="gymnax", env__name="CartPole-v1", env__backend=None)
    assert groups(tmp_path) == {"brax/ant": ["a"], "gymnax/CartPole-v1": ["b"]}


def test_a_folder_given_twice_is_drawn_once(sweep):
    assert len(curves.find_runs([sweep, sweep / "0.001_0"])) == 4


def test_runs_on_other_grids_are_compared_on_all_points_that_both_have_passed(tmp_path):
    runs = [curves.read(write(tmp_path / "a", (0, 100, 200))), curves.read(write(tmp_path / "b", (50, 120, 300), 10.0))]
    curve = curves.curve(runs, "eval/episode_return", curves.View())
    assert curve.x.tolist() == [50, 100, 120, 200]  # neither before 50 nor after 200
    np.testing.assert_allclose(curve.y, curve.x + 5)
    np.testing.assert_allclose([curve.low, curve.high], [curve.x, curve.x + 10])
    assert (curve.label, curve.band) == ("IQM of 2 runs", "95% bootstrap interval")


def test_no_point_is_made_up_where_runs_share_their_grid(sweep):
    (group, *_) = curves.grouped([curves.read(run) for run in curves.find_runs([sweep])], "config").values()
    assert curves.curve(group, "eval/episode_return", curves.View()).x.tolist() == [0, 100, 200]


def test_the_axis_may_be_wall_time_or_updates(tmp_path):
    run = curves.read(write(tmp_path / "a", seconds=0.5))
    x, y = curves.series(run, "eval/episode_return", curves.View("wall_time"))
    assert x.tolist() == [5, 55, 105] and y.tolist() == [0, 100, 200]
    x, _ = curves.series(run, "eval/episode_return", curves.View("updates"))
    assert x.tolist() == [0, 10, 20]


def test_normalised_returns_are_zero_at_random_and_one_at_expert(tmp_path):
    run = curves.read(write(tmp_path / "a"))
    scales = ("50,150", {"brax/ant": [50, 150]}, {"ant": {"random": 50, "expert": 150}, "brax/humanoid": [0, 1]})
    for number, scale in enumerate(scales):
        if not isinstance(scale, str):
            (tmp_path / f"{number}.json").write_text(json.dumps(scale))
            scale = str(tmp_path / f"{number}.json")
        view = curves.View(scale=curves.read_scale(scale))
        assert curves.series(run, "eval/episode_return", view)[1].tolist() == [-0.5, 0.5, 1.5]
        assert curves.series(run, "update/iterations", view)[1].tolist() == [0, 10, 20]  # no return
    with pytest.raises(ConfigError, match=r"has no returns for brax/ant"):
        curves.series(run, "eval/episode_return", curves.View(scale={"brax/humanoid": (0.0, 1.0)}))


@pytest.mark.parametrize("text", ["1", "a,b", "3,3", "0,inf", "none.json", "list.json", "lacks.json", "words.json"])
def test_a_scale_that_is_none_is_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"list": [1, 2], "lacks": {"ant": {"random": 0}}, "words": {"ant": ["a", 1]}}
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    with pytest.raises(ConfigError, match=r"^--normalize=\S+ cannot be read \([^\n]*\); give RANDOM,EXPERT[^\n]*$"):
        curves.read_scale(text)


@pytest.fixture
def two_tasks(tmp_path):
    """Two seeds each of two tasks, whose returns are 0 to 200 and 0 to 300."""
    for task, end in (("ant", 200), ("hopper", 300)):
        for seed in (0, 1):
            write(tmp_path / "tasks" / f"{task}{seed}", range(0, end + 1, 100), 10.0 * seed, env__name=task, seed=seed)
    (tmp_path / "returns.json").write_text('{"ant": [0, 100], "hopper": [0, 300]}')
    return tmp_path / "tasks"


def test_tasks_make_no_curve_together_unless_they_are_normalised(two_tasks, tmp_path):
    with pytest.raises(ConfigError, match="brax/ant, brax/hopper cannot be one curve.*give --normalize"):
        plot.draw([two_tasks], tmp_path / "a.png", group="all")
    scale = curves.read_scale(str(tmp_path / "returns.json"))
    runs = [curves.read(run) for run in curves.find_runs([two_tasks])]
    curve = curves.curve(runs, "eval/episode_return", curves.View(scale=scale))
    assert curve.x[-1] == 200 and curve.label == "IQM of 4 runs of 2 tasks"
    # At 200 env steps: ant 2.0 and 2.1, hopper 2/3 and 2.1/3; the middle half of the four is 2.0 and 0.7.
    assert curve.y[-1] == pytest.approx((2.0 + 0.7) / 2)
    assert plot.draw([two_tasks], tmp_path / "a.png", group="all", normalize=scale).is_file()


def test_scores_are_taken_where_all_runs_of_a_task_have_got_to(two_tasks):
    write(two_tasks / "short", (0, 100, 150), env__name="ant", ppo__gamma=0.9)
    groups = curves.grouped([curves.read(run) for run in curves.find_runs([two_tasks])], "ppo.gamma")
    told = curves.scores(groups, "eval/episode_return", curves.View(scale={"": (0.0, 100.0)}))
    assert told.at == {"brax/ant": 150.0, "brax/hopper": 300.0}
    ant, hopper = told.strata["ppo.gamma=0.99"]
    assert ant.tolist() == [1.5, 1.6] and hopper.tolist() == [3.0, 3.1]
    assert told.strata["ppo.gamma=0.9"][0].tolist() == [1.5]


def test_aggregates_are_drawn_and_written_as_tidy_rows(two_tasks, tmp_path):
    out, table = tmp_path / "a.svg", tmp_path / "new" / "a.csv"
    arguments = ["--figure=aggregates", "--group=all", f"--normalize={tmp_path / 'returns.json'}"]
    plot.main([str(two_tasks), *arguments, f"--out={out}", f"--csv={table}"])
    assert out.read_text().startswith("<?xml")
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = {row["statistic"]: row for row in reader}
    assert tuple(reader.fieldnames) == figures.COLUMNS
    # In the end: ant 2.0 and 2.1, hopper 1.0 and 310 / 300.
    assert float(rows["mean"]["y"]) == pytest.approx((2.05 + (1 + 310 / 300) / 2) / 2)
    assert float(rows["IQM"]["y"]) == pytest.approx((310 / 300 + 2.0) / 2)
    assert float(rows["optimality gap"]["y"]) == 0.0
    assert (rows["mean"]["runs"], rows["mean"]["tasks"]) == ("4", "2")
    assert float(rows["mean"]["low"]) < float(rows["mean"]["y"]) < float(rows["mean"]["high"])


def test_without_normalised_returns_there_is_no_optimality_gap(sweep, tmp_path):
    plot.draw([sweep], tmp_path / "a.png", figure="aggregates", csv=tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        assert {row["statistic"] for row in csv.DictReader(file)} == {"median", "IQM", "mean"}


def test_the_csv_holds_what_is_drawn(sweep, tmp_path):
    plot.draw([sweep], tmp_path / "a.pdf", figure="efficiency", x="updates", csv=tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "ppo.learning_rate=0.003"]
    assert [float(row["x"]) for row in rows] == [0, 10, 20] and {row["x_name"] for row in rows} == {"updates"}
    assert [float(row["y"]) for row in rows] == [3.5, 103.5, 203.5]
    assert [float(row["low"]) for row in rows] == [3, 103, 203] and {row["runs"] for row in rows} == {"2"}
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_profile_falls_from_all_runs_to_none(two_tasks, tmp_path):
    plot.draw([two_tasks], tmp_path / "a.png", figure="profile", group="all", normalize={"": (0.0, 100.0)},
              csv=tmp_path / "a.csv")  # fmt: skip
    with (tmp_path / "a.csv").open(newline="") as file:
        shares = [float(row["y"]) for row in csv.DictReader(file)]
    assert shares[0] == 1.0 and shares[-1] == 0.0 and sorted(shares, reverse=True) == shares
    assert {0.25, 0.5, 0.75} <= set(shares)


def test_a_broken_config_is_one_line(tmp_path):
    (write(tmp_path / "a") / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json cannot be read"):
        plot.draw([tmp_path / "a"], tmp_path / "a.png")
