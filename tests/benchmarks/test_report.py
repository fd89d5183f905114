"""What the benchmarks print, write and remember, without measuring anything."""

import json
import types

import pytest

from benchmarks import __main__ as entry
from benchmarks import drawing, report

RESULT = report.Result(
    [report.Table("rates", ("system", "env steps/s"), [["jaxrl", "1,000"], ["brax", "400"]])],
    {"jaxrl / brax": report.Ratio(2.5, "≥", 1.25), "share": report.Ratio(0.3, "≤", 0.25), "told": report.Ratio(7.0)},
    [
        report.Bars("rates", "env steps a second", ["jaxrl", "brax"], [1000.0, 400.0], [900.0, 390.0], [1100.0, 410.0]),
        report.Curves("growth", "environments", "env steps a second", {"jaxrl": [(64, 1e3), (256, 3e3)]}, True),
    ],
)


@pytest.fixture
def finished():
    return report.as_json(report.stamp("speed", "python -m benchmarks speed"), RESULT)


@pytest.fixture
def measured(monkeypatch):
    """The entry, with one benchmark that measures nothing."""
    module = types.SimpleNamespace(
        __doc__="Nothing.",
        arguments=lambda parser: parser.add_argument("--failing", action="store_true"),
        run=lambda arguments: RESULT._replace(failed=arguments.failing),
    )
    monkeypatch.setattr(entry, "_module", lambda name: module)


def test_a_table_is_markdown_with_its_columns_aligned():
    lines = report.text(RESULT).splitlines()
    assert lines[:6] == [
        "rates",
        "",
        "| system | env steps/s |",
        "|--------|------------:|",
        "| jaxrl  |       1,000 |",
        "| brax   |         400 |",
    ]


def test_ratios_say_whether_they_hold():
    lines = [line.split("|") for line in report.text(RESULT).splitlines()]
    told = {cells[1].strip(): cells[4].strip() for cells in lines if len(cells) == 6}
    assert (told["jaxrl / brax"], told["share"], told["told"]) == ("yes", "NO", "")


@pytest.mark.parametrize(("sense", "value", "holds"), [("≥", 1.0, True), ("≥", 0.99, False), ("≤", 1.01, False)])
def test_a_ratio_holds_on_its_side_of_what_is_needed(sense, value, holds):
    assert report.Ratio(value, sense, 1.0).holds is holds


def test_a_run_is_read_back_as_it_was_written(finished, tmp_path):
    report.write(finished, tmp_path / "new" / "speed.json")
    read = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert read["ratios"]["jaxrl / brax"] == {"value": 2.5, "sense": "≥", "needed": 1.25, "holds": True}
    assert read["ratios"]["told"] == {"value": 7.0}
    assert read["versions"]["jax"] and read["machine"]["cores"] >= 1


def test_the_history_grows_by_a_line_a_run(finished, tmp_path):
    path = tmp_path / "history.jsonl"
    assert report.recall(path) == []
    report.remember(finished, path)
    report.remember(finished | {"benchmark": "start", "failed": True}, path)
    assert [line["benchmark"] for line in report.recall(path)] == ["speed", "start"]
    [line] = report.recall(path, "speed")
    assert line["ratios"] == {"jaxrl / brax": 2.5, "share": 0.3, "told": 7.0}
    assert {"time", "commit", "machine", "command", "load"} <= set(line)


@pytest.mark.parametrize("option", ["--python brax={}", "--purejaxrl {}", "--json={}"])
def test_the_history_does_not_tell_where_something_lies(option, finished, tmp_path):
    path, command = tmp_path / "history.jsonl", f"python -m benchmarks speed {option} --turns 3"
    report.remember(finished | {"command": command.format("/home/me/there")}, path)
    assert report.recall(path)[0]["command"] == command.format("PATH")
    report.remember(finished | {"command": "python -m benchmarks restart --env brax/ant"}, path)
    assert report.recall(path)[1]["command"] == "python -m benchmarks restart --env brax/ant"


def test_the_history_puts_the_runs_of_a_ratio_below_each_other(finished, tmp_path):
    path = tmp_path / "history.jsonl"
    for _ in range(2):
        report.remember(finished, path)
    names = [row[0] for row in report.history(report.recall(path)).rows]
    assert names == ["jaxrl / brax"] * 2 + ["share"] * 2 + ["told"] * 2


def test_the_entry_writes_json_history_and_picture(measured, tmp_path, capsys):
    files = {name: tmp_path / name for name in ("out.json", "history.jsonl", "out.png")}
    flags = zip(("--json", "--history", "--png"), map(str, files.values()), strict=True)
    assert entry.main(["speed", *(word for flag in flags for word in flag)]) == 0
    assert all(path.exists() for path in files.values())
    assert "| jaxrl / brax | " in capsys.readouterr().out.replace("  ", " ")
    assert report.recall(files["history.jsonl"])[0]["command"].startswith("python -m benchmarks speed --json ")


def test_what_could_not_be_measured_is_an_exit_status_of_one(measured, tmp_path):
    out = ["--json", str(tmp_path / "out.json"), "--history", str(tmp_path / "history.jsonl")]
    assert entry.main(["speed", "--failing", *out]) == 1
    assert entry.main(["speed", "--no_history", *out]) == 0
    assert [line["failed"] for line in report.recall(tmp_path / "history.jsonl")] == [True]


def test_drawing_what_is_not_there_is_one_line_and_status_two(tmp_path, capsys):
    assert entry.main(["draw", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("written", ["{}", "no json", '{"figures": [], "benchmark": "speed"}'])
def test_drawing_what_holds_no_figure_is_one_line_and_status_two(written, tmp_path, capsys):
    (tmp_path / "out.json").write_text(written)
    assert entry.main(["draw", str(tmp_path / "out.json")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ") and not (tmp_path / "out.png").exists()


def test_a_picture_is_drawn_beside_the_newest_file(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    report.write(finished, tmp_path / "speed.json")
    assert entry.main(["draw"]) == 0
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "shown"), [(63_512.0, "63,500"), (0.35213, "0.352"), (2.0, "2.00"), (0.0, "0.0"), (-12.34, "-12.3")]
)
def test_numbers_on_bars_have_three_digits(value, shown):
    assert drawing.number(value) == shown


@pytest.mark.parametrize("name", entry.NAMES)
def test_every_benchmark_has_a_summary_and_its_own_options(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        entry.main([name, "--help"])
    shown = capsys.readouterr().out
    assert entry._module(name).__doc__.partition("\n")[0] in shown and "--no_history" in shown


@pytest.mark.parametrize("words", ["speed --repeats 0", "start --compilations none", "growth --num_envs 64 -1"])
def test_a_count_of_nothing_is_one_line_and_status_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        entry.main(words.split())
    assert capsys.readouterr().err.endswith("is not a whole number of at least 1\n")


@pytest.mark.parametrize(("env", "cure"), [("brax/ants", "did you mean 'ant'?"), ("ant", "choose one of brax, ")])
def test_an_environment_that_does_not_exist_is_one_line_and_status_two(env, cure, capsys):
    assert entry.main(["restart", "--env", env, "--no_history"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert cure in line
