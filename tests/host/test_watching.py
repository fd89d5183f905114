"""A run that trains is followed: every checkpoint that appears, once, compiled once, until it has ended."""

import importlib
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

import jaxrl
from jaxrl import envs, find
from jaxrl.host import checkpoint, policies, run_folder, watching
from jaxrl.types import TrainState

play = importlib.import_module("jaxrl.play")


class Run:
    """A run whose checkpoints are saved when the test says so."""

    def __init__(self, folder, name="target"):
        self.config = jaxrl.configure(
            {
                "env": {"suite": "probe", "name": name},
                "network": {"hidden_sizes": (4,), "cnn_filters": (2,), "cnn_kernels": (3,), "cnn_strides": (1,)},
                "total_env_steps": 300,
                "checkpoint": {"keep_latest": 2, "keep_best": 0},
            }
        )
        self.folder = run_folder.open_run(folder, self.config, [], {})
        self.algorithm = find.find("algorithms", "ppo").make(self.config, envs.make(self.config.env, 1).spec)
        self._saver = checkpoint.Checkpointer(folder / "checkpoints", self.config.checkpoint)

    def save(self, env_steps):
        agent = jax.jit(self.algorithm.init)(jax.random.key(env_steps), self.algorithm.hyper)
        self._saver.save(TrainState(agent, (), jax.random.key(0), jnp.int32(0)), env_steps, {})
        assert self._saver.wait()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def script(*steps):
    """A wait that does the next step of the test each time, and fails where more is waited for than there is to do."""
    left = list(steps)

    def wait(seconds=None):
        assert left, "it waits for a run that has ended"
        left.pop(0)()

    return wait, left


def test_each_checkpoint_is_one_row_until_the_last(run, capsys):
    wait, left = script(lambda: run.save(100), lambda: None, lambda: run.save(200), lambda: run.save(300))
    assert play.main([str(run.folder), "--watch", "--episodes=4"], wait) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert "return" in head and [row.split()[0] for row in rows] == ["100", "200", "300"] and not left
    assert len({row.split(maxsplit=1)[1] for row in rows}) == 3 and all("±" in row and "[" in row for row in rows)


def test_a_row_tells_what_playing_that_checkpoint_tells(run, capsys):
    run.save(100)
    assert play.main([str(run.folder), "--json", "--episodes=4", "--seed=2"]) == 0
    alone = json.loads(capsys.readouterr().out)
    wait, _ = script(lambda: run.save(300))
    assert play.main([str(run.folder), "--watch", "--json", "--episodes=4", "--seed=2"], wait) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == alone and second["env_steps"] == 300 and second["returns"] != first["returns"]


def test_a_run_that_ends_early_says_so_and_is_followed_no_longer(run, capsys):
    running = run_folder.running(run.folder)
    running.__enter__()
    assert not run_folder.has_ended(run.folder)

    def end():
        run.save(100)
        running.__exit__(None, None, None)

    wait, left = script(end)
    assert play.main([str(run.folder), "--watch", "--episodes=4"], wait) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "100" and not left


def test_a_run_that_goes_on_after_its_end_is_followed_again(run):
    with run_folder.running(run.folder):
        pass
    assert run_folder.has_ended(run.folder)
    run_folder.open_run(run.folder, run.config, [], {})
    assert not run_folder.has_ended(run.folder)


def test_training_notes_its_end_after_its_last_checkpoint(tmp_path):
    short = {
        "total_env_steps": 64,
        "env.suite": "probe",
        "env.name": "constant",
        "eval.episodes": 0,
        "network.hidden_sizes": (4,),
    }
    rows = jaxrl.iterate(
        {},
        tmp_path / "run",
        short | {"ppo.num_envs": 8, "ppo.unroll_length": 4, "ppo.num_minibatches": 1, "writers": ()},
    )
    next(rows)
    assert not run_folder.has_ended(tmp_path / "run")
    rows.close()
    assert run_folder.has_ended(tmp_path / "run")
    assert policies.steps(tmp_path / "run" / "checkpoints", policies.config_of(tmp_path / "run"))


def test_nothing_is_compiled_for_the_second_checkpoint(run, capsys):
    compiled, counts = [], []
    count = lambda name, seconds, **_: compiled.append(name) if name.endswith("backend_compile_duration") else None  # noqa: E731
    wait, _ = script(
        lambda: run.save(100),
        lambda: (run.save(200), counts.append(len(compiled))),
        lambda: (counts.append(len(compiled)), run.save(300)),
    )
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        assert play.main([str(run.folder), "--watch", "--episodes=4"], wait) == 0
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert counts[0] > 0 and counts[0] == counts[1]


def test_a_checkpoint_that_goes_before_it_is_read_is_passed_over(run, monkeypatch, capsys):
    run.save(100)
    restore = policies.restore

    def late(found, algorithm):
        if found.env_steps == 100:
            shutil.rmtree(found.folder / "100")
        return restore(found, algorithm)

    monkeypatch.setattr(policies, "restore", late)
    wait, _ = script(lambda: run.save(300))
    assert play.main([str(run.folder), "--watch", "--episodes=4"], wait) == 0
    printed, errors = capsys.readouterr()
    assert [row.split()[0] for row in printed.splitlines()[1:]] == ["300"] and errors == ""


def test_a_damaged_checkpoint_is_a_warning_and_the_next_is_played(run, capsys):
    run.save(100)
    shutil.rmtree(run.folder / "checkpoints" / "100" / "state")
    wait, _ = script(lambda: run.save(300))
    assert play.main([str(run.folder), "--watch", "--episodes=4"], wait) == 0
    printed, errors = capsys.readouterr()
    assert [row.split()[0] for row in printed.splitlines()[1:]] == ["300"]
    assert errors.startswith("warning: checkpoint 100") and errors.count("\n") == 1


def test_a_checkpoint_of_the_same_name_is_played_again_after_the_run_fell_back(run, tmp_path):
    warnings = []
    wait, _ = script(lambda: (shutil.rmtree(run.folder / "checkpoints" / "100"), run.save(100)), lambda: run.save(300))
    run.save(100)
    told = [found.env_steps for found, _ in watching.follow(run.folder, run.algorithm, wait, warnings.append)]
    assert told == [100, 100, 300] and not warnings


def test_ctrl_c_leaves_without_a_word(run, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    run.save(100)
    assert play.main([str(run.folder), "--watch", "--episodes=4"], stop) == 0
    printed, errors = capsys.readouterr()
    assert len(printed.splitlines()) == 2 and errors == ""


def test_pictures_are_renewed_with_each_checkpoint(tmp_path, capsys):
    run = Run(tmp_path / "run", "image")
    gif, seen = tmp_path / "a.gif", []
    run.save(100)
    wait, _ = script(lambda: (seen.append(gif.stat().st_ino), run.save(300)))
    assert play.main([str(run.folder), "--watch", "--episodes=2", f"--video={gif}"], wait) == 0
    assert gif.read_bytes().startswith(b"GIF89a") and gif.stat().st_ino != seen[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "run"]  # nothing half-written is left


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=best"], "--watch plays each checkpoint; leave out --checkpoint=best."),
        (["--poll=0"], "--poll=0 is out of range; choose a number above 0."),
        (["--fps=nan"], "--fps=nan is out of range"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, capsys, arguments, message):
    assert play.main([str(run.folder), "--watch", *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors


def test_a_folder_that_is_no_run_is_refused_at_once(tmp_path, capsys):
    assert play.main([str(tmp_path / "nothing"), "--watch"]) == 2
    assert "does not exist" in capsys.readouterr().err
