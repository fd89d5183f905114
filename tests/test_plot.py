"""One picture shows what runs have learned; a wrong command line is one line and exit status 2."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxrl import plot
from jaxrl.types import ConfigError


def write_run(folder: Path, offset: float = 0.0, steps=range(0, 1001, 100)) -> Path:
    """A run whose returns rise from `offset` by 1 each env step; evaluated at every second row."""
    folder.mkdir(parents=True)
    rows = []
    for number, env_steps in enumerate(steps):
        row = {"env_steps": env_steps, "wall_seconds": 1.0, "rollout/reward": 1.0}
        row |= {"rollout/episode_return": env_steps + offset, "rollout/episode_length_max": env_steps}
        if number % 2 == 0:
            row |= {"eval/episode_return": env_steps + offset, "eval/episode_return_std": 10.0}
            row |= {"eval/episode_length_max": env_steps}
        rows.append(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def figure(monkeypatch):
    """Draws as `plot.draw` does, and gives the figure too: {title: axes}."""
    from matplotlib.figure import Figure

    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), savefig(self, *a, **k)))

    def panels(*arguments, **options):
        plot.draw(*arguments, **options)
        return {axes.get_title(): axes for axes in drawn[-1].axes}

    return panels


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes) -> tuple[np.ndarray, np.ndarray]:
    return axes.lines[0].get_data()


def band(axes) -> np.ndarray:
    """[2, 2], the band's corners: least and greatest x and y."""
    vertices = axes.collections[0].get_paths()[0].vertices
    return np.stack([vertices.min(0), vertices.max(0)])


def test_one_run_gives_a_png_with_something_in_every_panel(tmp_path):
    out = plot.draw([write_run(tmp_path / "ant")], tmp_path / "new" / "plot.png")
    picture = np.asarray(Image.open(out).convert("RGB"))
    height, width, _ = picture.shape
    assert width > 1000 and height > 600
    for quarter in (picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :],
                    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :]):  # fmt: skip
        colour = np.array([int(plot.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(quarter - colour.astype(int)).sum(-1) < 30).sum() > 100  # a line of the first colour


def test_panels_are_those_of_the_tutorial(figure, tmp_path):
    panels = figure([write_run(tmp_path / "ant", offset=5)], tmp_path / "plot.png")
    assert list(panels) == [
        "training rewards (average)",
        "Max step count (training)",
        "Return (test)",
        "Max step count (test)",
    ]
    x, y = line(panels["training rewards (average)"])
    assert x.tolist() == list(range(0, 1001, 100)) and y.tolist() == [step + 5 for step in x]
    x, _ = line(panels["Return (test)"])
    assert x.tolist() == list(range(0, 1001, 200))
    assert all(axes.get_xlabel() == "env steps" for axes in panels.values())


def test_band_of_one_run_is_the_std_over_test_episodes(figure, tmp_path):
    panels = figure([write_run(tmp_path / "ant")], tmp_path / "plot.png")
    assert "± std over episodes" in legend(panels["Return (test)"])
    assert band(panels["Return (test)"])[:, 1].tolist() == [-10.0, 1010.0]  # 0 - 10 and 1000 + 10
    assert not panels["training rewards (average)"].collections


def test_training_reward_stands_in_where_no_episode_has_ended(figure, tmp_path):
    run = tmp_path / "young"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"env_steps": 0, "wall_seconds": 1, "rollout/reward": 3.5}\n')
    panels = figure([run], tmp_path / "plot.png")
    axes = panels["training rewards (average)"]
    assert axes.get_ylabel() == "reward per step" and line(axes)[1].tolist() == [3.5]
    assert "no eval/episode_return" in panels["Return (test)"].texts[0].get_text()


def test_two_runs_give_their_mean_over_the_range_they_share(figure, tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", offset=20, steps=range(100, 1301, 120))]
    axes = figure(runs, tmp_path / "plot.png")["training rewards (average)"]
    x, y = line(axes)
    assert x[0] == 100 and x[-1] == 1000
    np.testing.assert_allclose(y, x + 10)  # straight lines, 20 apart, whatever their own steps
    # A quarter of the draws holds the lower run twice, a quarter the higher: the interval is from one to the other.
    np.testing.assert_allclose(band(axes), [[100, 100], [1000, 1020]])
    assert legend(axes) == ["IQM of 2 runs", "95% bootstrap interval"]
    axes = figure(runs, tmp_path / "plot.png", aggregate="mean")["training rewards (average)"]
    np.testing.assert_allclose(band(axes), [[100, 100], [1000, 1020]])  # std 10 to both sides
    assert legend(axes) == ["mean of 2 runs", "± std over runs"]


def test_four_runs_give_the_interquartile_mean_which_an_outlier_does_not_move(figure, tmp_path):
    runs = [write_run(tmp_path / f"s{offset}", offset) for offset in (0, 10, 20, 1_000_000)]
    axes = figure(runs, tmp_path / "plot.png")["Return (test)"]
    x, y = line(axes)
    np.testing.assert_allclose(y, x + 15)  # of 0, 10, 20, 1e6 the middle half is 10 and 20
    assert legend(axes) == ["IQM of 4 runs", "95% bootstrap interval"]
    axes = figure(runs, tmp_path / "plot.png", aggregate="mean")["Return (test)"]
    assert legend(axes)[0] == "mean of 4 runs" and line(axes)[1][0] == 250_007.5


def test_group_folder_gives_one_curve_a_folder(figure, tmp_path):
    runs = [write_run(tmp_path / folder / f"seed{seed}", seed) for folder in ("ant", "hopper") for seed in range(2)]
    axes = figure(runs, tmp_path / "plot.png", group="folder")["Return (test)"]
    assert legend(axes) == [f"{name}: IQM of 2 runs, 95% bootstrap interval" for name in ("ant", "hopper")]


def test_links_to_runs_are_of_the_folder_that_they_lie_in(figure, tmp_path):
    links = [tmp_path / folder / name for folder, name in (("old", "a"), ("old", "b"), ("new", "c"), ("new", "d"))]
    for offset, link in enumerate(links):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(write_run(tmp_path / "runs" / link.name, offset), target_is_directory=True)
    axes = figure(links, tmp_path / "plot.png", group="folder")["Return (test)"]
    assert legend(axes) == [f"{name}: IQM of 2 runs, 95% bootstrap interval" for name in ("old", "new")]


def test_group_none_keeps_runs_of_one_name_apart(figure, tmp_path):
    runs = [write_run(tmp_path / folder / "seed0") for folder in ("ant", "hopper")]
    axes = figure(runs, tmp_path / "plot.png", group="none")["Return (test)"]
    assert len(axes.lines) == 2
    assert legend(axes)[0].startswith(f"{runs[0]}: mean")


def test_drawing_leaves_the_users_matplotlib_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    plot.draw([write_run(tmp_path / "ant")], tmp_path / "plot.png")
    assert dict(matplotlib.rcParams) == before


def test_main_puts_the_picture_of_one_run_into_its_folder(tmp_path, capsys):
    run = write_run(tmp_path / "ant")
    plot.main([str(run)])
    assert capsys.readouterr().out.strip() == str(run / "plots" / "metrics.png")
    assert (run / "plots" / "metrics.png").stat().st_size > 10_000


def test_main_puts_the_picture_of_several_runs_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plot.main([str(write_run(Path("a"))), str(write_run(Path("b")))])
    assert Path("metrics.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["empty"], "empty has no metrics"),
        (["parent/ant", "--group", "ppo.lerning_rate"], "--group=ppo.lerning_rate is neither"),
        (["parent/ant", "--x", "updates"], "no update/iterations"),
        (["parent/ant", "--normalize", "1"], "--normalize=1 cannot be read"),
        (["parent/ant", "--normalize", "5,5"], "no two different numbers"),
        (["parent/ant", "--figure", "profile", "--metric", "eval/none"], "no run holds eval/none"),
        (["parent/ant", "--aggregate", "median"], "'median'"),
        (["parent/ant", "--out", "plot.foo"], "plot.foo cannot be written"),
        ([], "RUN"),
    ],
)
def test_error_is_one_line_and_exit_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    write_run(Path("parent/ant"))
    assert plot.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_runs_without_common_env_steps_are_an_error(tmp_path):
    runs = [write_run(tmp_path / "a", steps=range(0, 100, 10)), write_run(tmp_path / "b", steps=range(500, 600, 10))]
    with pytest.raises(ConfigError, match="--group none"):
        plot.draw(runs, tmp_path / "plot.png")


def test_module_runs_as_a_command_and_explains_itself():
    command = [sys.executable, "-m", "jaxrl.plot", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(plot.__file__).parents[1])
    for word in ("RUN", "--out", "--aggregate", "interquartile mean", "--group", "--normalize"):
        assert word in done.stdout
