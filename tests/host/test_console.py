"""Progress is one live line in a terminal, and a readable line now and then in a log file."""

import fcntl
import json
import os
import re
import struct
import sys
import termios
import threading

import pytest
from ml_collections import ConfigDict

from jaxrl.host.writers import console

CONFIG = ConfigDict({"total_env_steps": 1_000_000})


def row(env_steps, wall_seconds=None, **values):
    """A row at 100k steps/s; `episode_return=1` is the key rollout/episode_return, and so on."""
    names = {"episode_return": console.RETURN, "length": console.LENGTH, "rate": console.RATE}
    names["eval"] = console.EVALUATION
    seconds = env_steps / 1e5 if wall_seconds is None else wall_seconds
    return {"env_steps": env_steps, "wall_seconds": seconds} | {names[name]: value for name, value in values.items()}


FIRST = row(100_000, episode_return=-12.5, length=37, rate=3e-4, eval=61)
LATER = row(500_000, episode_return=8987.4, length=998.6, rate=1.5e-4, eval=9350.2)


def shown(rows, total=1_000_000):
    status = console.Status(total=total, env_steps=0)
    for one in rows:
        status = console.advance(status, one)
    return status


@pytest.fixture
def terminal(monkeypatch):
    """`open(columns)` puts a pseudo-terminal in the place of standard output; `read()` closes it and gives its text."""
    leader, follower = os.openpty()
    chunks = []

    def collect():
        try:
            while chunk := os.read(leader, 4096):
                chunks.append(chunk)
        except OSError:
            pass  # how a pseudo-terminal says that it has ended

    reader = threading.Thread(target=collect)
    stream = os.fdopen(follower, "w", encoding="utf-8")

    def open_(columns, rows=24):
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", stream)
        reader.start()

    def read():
        stream.close()
        reader.join(timeout=10)
        return b"".join(chunks).decode()

    yield open_, read
    if not stream.closed:
        stream.close()
    os.close(leader)


def frames(text):
    return [frame for frame in re.split(r"[\r\n]+", text) if frame.strip()]


def test_plain_line_says_all_there_is_to_know():
    assert console.line(shown([FIRST, LATER])) == (
        " 50%  500k/1M steps, 100k steps/s, 0:05 left, return 8987 (start -12.5), length 999, lr 1.5e-4, "
        "eval 9350 (start 61.0)"
    )


def test_a_line_and_a_wide_bar_also_say_how_long_the_longest_episode_and_an_evaluation_were():
    status = shown([FIRST, LATER | {console.LONGEST: 1000, console.EVALUATION_LENGTH: 750.5}])
    assert "length 999 (max 1000), lr 1.5e-4, eval 9350 (start 61.0) in 750 steps" in console.line(status)
    assert console.bar_format(status, 200).endswith("length 999 (max 1000), lr 1.5e-4, eval 61.0→9350 in 750 steps")
    assert console.bar_format(status, 120).endswith("length 999, lr 1.5e-4, eval 61.0→9350")


def test_values_that_a_row_lacks_or_that_are_not_finite_stay_as_they_were():
    status = shown([FIRST, row(500_000, episode_return=float("nan"), length=None)])
    assert status.latest[console.RETURN] == -12.5
    assert status.latest[console.LENGTH] == 37
    assert status.latest[console.EVALUATION] == 61


def test_time_left_counts_evaluations_but_not_compiling():
    compiled = row(100_000, wall_seconds=60.0) | {console.COMPILE: 50.0, console.SPEED: 200_000.0}
    # 100k steps took 4 s with its evaluation after the 50 s of compiling: 800k steps take 32 s.
    status = shown([row(0, wall_seconds=0.0), compiled, row(200_000, wall_seconds=64.0)])
    assert "200k steps/s, 0:32 left" in console.line(status)


def test_log_file_gets_first_row_every_tenth_and_last_row(tmp_path, capsys):
    writer = console.make(CONFIG, tmp_path, None)
    for env_steps in range(0, 520_000, 20_000):  # 0.2 s apart: no ten seconds pass
        writer.write(row(env_steps))
    writer.write(row(530_000))
    writer.close()
    out, error = capsys.readouterr()
    percents = [line.split("%")[0].strip() for line in out.splitlines()]
    assert percents == ["0", "10", "20", "30", "40", "50", "53"]
    assert "\r" not in out and error == ""


def test_log_file_gets_a_line_every_ten_seconds_of_a_slow_run(tmp_path, capsys):
    writer = console.make(CONFIG, tmp_path, None)
    for second in range(0, 31):
        writer.write(row(1000 + second, wall_seconds=float(second)))
    writer.close()
    assert len(capsys.readouterr().out.splitlines()) == 4  # at 0, 10, 20 and 30 s


def test_log_file_does_not_say_the_last_row_twice(tmp_path, capsys):
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(row(0))
    writer.write(row(1_000_000))
    writer.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("100%  1.0M/1M steps") and "took 0:10" in lines[1]


@pytest.mark.parametrize("columns", [30, 60, 80, 100, 120, 200])
def test_bar_never_reaches_the_edge_of_the_terminal(columns, terminal, tmp_path):
    open_terminal, read = terminal
    open_terminal(columns)
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(FIRST)
    writer.write(LATER)
    writer.write(row(1_000_500, episode_return=-123456.7, length=1000, rate=0.0, eval=-98765.4))  # past the end
    writer.close()
    seen = frames(read())
    assert max(map(len, seen)) < columns
    assert "500k/1M" in "".join(seen) and "1.0M/1M" in seen[-1]


@pytest.mark.parametrize("columns", [80, 120])
def test_bar_shows_everything_from_80_columns_on(columns, terminal, tmp_path):
    open_terminal, read = terminal
    open_terminal(columns)
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(FIRST)
    writer.write(LATER)
    writer.close()
    live = next(frame for frame in frames(read()) if "500k" in frame)
    assert "█" in live
    starts = ("return -12→8987", "eval 61→9350") if columns == 80 else ("return -12.5→8987", "eval 61.0→9350")
    for part in ("500k/1M", "100k", "0:05 left", "999", "lr 1.5e-4", *starts):
        assert part in live


def test_bar_is_drawn_in_a_terminal_that_does_not_know_its_size(terminal, tmp_path):
    open_terminal, read = terminal
    open_terminal(columns=0, rows=0)
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(FIRST)
    writer.close()
    seen = frames(read())
    assert "100k/1M" in seen[-1] and max(map(len, seen)) < 80


def test_say_puts_a_line_of_its_own_above_a_live_bar(terminal, tmp_path):
    open_terminal, read = terminal
    open_terminal(80)
    console.say("device: cpu")
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(FIRST)
    console.say("compiling ...")
    writer.write(LATER)
    writer.close()
    text = read()
    assert "device: cpu\r\n" in text
    assert re.search(r"\r *\rcompiling \.\.\.\r\n\r\S* *.*100k/1M", text)  # wiped, said, and the bar drawn again


def test_say_reaches_a_log_file(capsys):
    console.say("121,345 parameters")
    assert capsys.readouterr().out == "121,345 parameters\n"


def test_resumed_bar_starts_where_the_run_was_and_remembers_its_start(terminal, tmp_path):
    ahead = row(800_000, episode_return=7.0, eval=7.0)  # beyond the checkpoint: it has not happened
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (FIRST, LATER, ahead)))
    open_terminal, read = terminal
    open_terminal(120)
    writer = console.make(CONFIG, tmp_path, 500_000)
    writer.close()
    first = frames(read())[0]
    assert first.startswith(" 50%|") and "500k/1M" in first
    assert "return -12.5→8987" in first and "eval 61.0→9350" in first


def test_new_run_does_not_look_at_the_metrics_of_an_old_one(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(FIRST) + "\n")
    writer = console.make(CONFIG, tmp_path, None)
    writer.write(row(0, eval=5.0))
    writer.close()
    assert "eval 5.00 (start 5.00)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999.6, "1.0k"), (8_500, "8.5k"), (85_300, "85k"), (999_600, "1.0M"), (1_234_567, "1.2M")]
    + [(123_456_789, "123M"), (5.5e10, "55.0G")],
)
def test_counts_are_human_readable(number, text):
    assert console.human(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "0:07"), (65, "1:05"), (3_723, "1:02:03"), (3 * 86_400 + 4 * 3_600, "3d 04h")]
)
def test_durations_are_human_readable(seconds, text):
    assert console.clock(seconds) == text
