"""Grids as text and as pictures: hand-made frames, and an episode whose moves are known."""

import importlib
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.host import checkpoint, grids, recording, run_folder, screen

play = importlib.import_module("jaxrl.play")
SMALL = {"hidden_sizes": (4,), "cnn_filters": (2,), "cnn_kernels": (3,), "cnn_strides": (1,)}
EXPERIMENT = {"env": {"suite": "probe", "name": "image"}, "network": SMALL}


def shape(*sides, dtype=np.float32):
    return jax.ShapeDtypeStruct(sides, dtype)


def frame_of(*channels):
    """[H, W, C] of 0 and 1, from rows of text for each channel."""
    return np.stack([[[mark == "x" for mark in row] for row in channel] for channel in channels], -1).astype(float)


NAMES = ("paddle", "ball", "", "brick")
GRID = grids.find(shape(2, 3, 4), NAMES)
FRAME = frame_of(["   ", " x "], ["x  ", "   "], ["xxx", "  x"], ["xxx", "   "])


def test_what_stands_in_fewer_cells_is_drawn_before_what_stands_in_many():
    assert grids.cells(GRID, FRAME).tolist() == [[1, 3, 3], [-1, 0, -1]]
    assert grids.lines(GRID, FRAME) == ["B R R", "· P ·"]
    assert grids.legend(GRID) == "P paddle  B ball  R brick"


def test_a_channel_that_fills_the_grid_is_not_drawn():
    grid = grids.find(shape(1, 2, 2))
    assert grids.lines(grid, frame_of(["xx"], ["x "])) == ["2 ·"]
    assert grids.legend(grid) == "1 channel 0  2 channel 1"


def test_every_named_channel_has_a_sign_of_its_own():
    names = tuple(f"thing {i}" for i in range(30))
    signs = grids.find(shape(3, 3, 30), names).signs
    assert len(set(signs)) == 30 and signs[0] == "T"


def test_a_picture_has_the_colours_of_the_cells_and_even_sides():
    picture = grids.picture(GRID, FRAME)
    height, width, _ = picture.shape
    assert picture.dtype == np.uint8 and height % 2 == width % 2 == 0 and width * 2 == height * 3
    side = height // 2
    assert (picture[:side, :side] == grids.PALETTE[1]).all() and (picture[side:, :side] == grids.GROUND).all()


def test_the_newest_frame_of_a_stack_of_images_is_shown_by_its_brightness():
    stack = np.zeros((2, 2, 4), np.uint8)
    stack[0, 0, 0], stack[1, 1, 3] = 255, 255
    grid = grids.find(shape(2, 2, 4, dtype=np.uint8))
    assert grids.lines(grid, stack) == ["    ", "  @@"] and grids.legend(grid) == ""
    assert (
        grids.picture(grid, stack)[-1, -1].tolist() == [255] * 3
        and grids.picture(grid, stack)[0, 0].tolist() == [0] * 3
    )


def test_the_grid_is_found_among_the_parts_and_nowhere_else():
    parts = {"action_mask": shape(2, 2, 2), "clock": shape(1), "grid": shape(4, 5, 6), "more": shape(2, 2, 2)}
    grid = grids.find(parts)
    assert grid.part == "grid" and len(grid.names) == 6
    assert grids.of(grid, {"grid": np.arange(240).reshape(2, 4, 5, 6)}).shape == (4, 5, 6)
    for obs in (shape(4), shape(4, 4), {"critic": shape(2, 2, 2)}):
        assert grids.find(obs) is None


def test_names_of_another_number_of_channels_are_not_believed():
    assert grids.find(shape(2, 2, 3), NAMES).names == ("channel 0", "channel 1", "channel 2")


MOMENTS = [
    recording.Moment(FRAME, None, 0.0, False),
    recording.Moment(FRAME[:, ::-1], np.int32(2), 1.5, False),
    recording.Moment(FRAME, np.int32(0), -0.5, True),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_frames_follow_each_other_where_the_text_is_piped():
    stream, waits = io.StringIO(), []
    screen.Screen(4.0, stream, waits.append).show(GRID, "breakout", iter(MOMENTS))
    first, second, third, rest = stream.getvalue().split("\n\n")
    assert first.splitlines() == [
        "breakout",
        "B R R    step    0",
        "· P ·    action  none yet",
        "         reward  0",
        "         return  0",
        "P paddle  B ball  R brick",
    ]
    assert "action  2" in second and "return  1.5" in second and second.splitlines()[1].startswith("R R B")
    assert "return  1\n         end\n" in third and "\x1b" not in stream.getvalue() and (waits, rest) == ([], "")


def test_a_terminal_is_redrawn_in_place_and_in_colour_at_the_rate(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream, waits = Terminal(), []
    screen.Screen(4.0, stream, waits.append).show(GRID, "breakout", iter(MOMENTS))
    assert waits == [0.25, 0.25]
    drawn = stream.getvalue()
    assert drawn.count(screen.HOME) == 3 and drawn.count(screen.CLEAR) == 1
    assert "\x1b[38;2;0;153;136mB\x1b[0m" in drawn
    seen = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", drawn)
    piped = io.StringIO()
    screen.Screen(4.0, piped).show(GRID, "breakout", iter(MOMENTS))
    assert [line.rstrip() for line in seen.splitlines()] == [line for line in piped.getvalue().splitlines() if line]


def test_a_terminal_without_colour_is_left_without(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    screen.Screen(4.0, stream, lambda seconds: None).show(GRID, "breakout", iter(MOMENTS))
    assert "\x1b[38" not in stream.getvalue() and screen.HOME in stream.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the probe that shows an image, stopped as it began."""
    config = jaxrl.configure(EXPERIMENT)
    folder = run_folder.open_run(tmp_path_factory.mktemp("runs") / "image", config, [], {})
    algorithm = recording.Player(config, jaxrl.envs.stage(config.env), lambda state, obs: obs).algorithm
    agent = jax.jit(algorithm.init)(jax.random.key(0), algorithm.hyper)
    saver = checkpoint.Checkpointer(folder / "checkpoints", config.checkpoint)
    saver.save(jaxrl.types.TrainState(agent, (), jax.random.key(0), jnp.int32(0)), 0, {})
    assert saver.close()
    return folder


def test_the_door_draws_an_episode_as_text_and_as_a_video(run, capsys, tmp_path):
    assert play.main([str(run), "--episodes=2", "--text", f"--video={tmp_path / 'a.gif'}"]) == 0
    nothing, first, second = capsys.readouterr().out.split("image after 0 env steps\n")
    assert nothing == "" and first.count("@@") == 1 and "step    0" in first and "end" not in first
    assert "step    1" in second and "end" in second and "image (probe)" in second
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")


def test_what_shows_no_grid_is_refused_in_one_line(run, capsys, tmp_path):
    text = (run / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"name": "image"', '"name": "target"'))
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    assert play.main([str(tmp_path), "--text"]) == 2
    errors = capsys.readouterr().err
    assert re.fullmatch(r"error: --text cannot draw probe/target: it shows no grid; .*MinAtar.*\n", errors)
    assert play.main([str(tmp_path), f"--video={tmp_path / 'a.gif'}"]) == 2
    assert re.fullmatch(r"error: config\.env\.suite='probe' cannot be drawn: .*\n", capsys.readouterr().err)
    assert not (tmp_path / "a.gif").exists()
