"""Run folders: made, gone on with, refused, and never half written."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from jaxrl.host import config as configs
from jaxrl.host import keys, run_folder
from jaxrl.types import ConfigError

COMMAND = ["jaxrl/train.py", "--config=ant"]
DEVICES = {"kind": "cpu", "count": 1}


@pytest.fixture(autouse=True)
def one_group(monkeypatch):
    ppo = SimpleNamespace(default_config=lambda: ConfigDict({"gamma": 0.99}))
    monkeypatch.setattr(keys, "_modules", lambda algorithm, suite: [("", configs), ("ppo", ppo)])


def opened(workdir, *flags):
    config = configs.resolve({}, [tuple(flag.split("=")) for flag in flags])
    return run_folder.open_run(workdir, config, COMMAND, DEVICES)


def run_json(workdir):
    return json.loads((workdir / "run.json").read_text())


def refusal(workdir, *flags):
    """The message of the ConfigError, which must be one printable line."""
    with pytest.raises(ConfigError) as caught:
        opened(workdir, *flags)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_new_run_says_what_it_is(tmp_path):
    workdir = opened(tmp_path / "runs" / "ant", "seed=7", "ppo.gamma=0.5")
    assert workdir == tmp_path / "runs" / "ant"
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "run.json"]
    assert json.loads((workdir / "config.json").read_text())["ppo"] == {"gamma": 0.5}
    run = run_json(workdir)
    assert run["format_version"] == 1 and run["seed"] == 7
    assert run["command_line"] == COMMAND and run["devices"] == DEVICES
    assert set(run["versions"]) == {"python", "jax", "jaxlib", "brax", "jaxrl"}
    assert run["versions"]["jax"] and run["versions"]["python"]
    assert len(run["starts"]) == 1


def test_empty_folder_becomes_a_run(tmp_path):
    assert run_folder.is_run(opened(tmp_path))


def test_config_comes_back_from_its_folder(tmp_path):
    workdir = opened(tmp_path, "seed=7", "writers=jsonl")
    config = run_folder.read_config(workdir)
    assert config.seed == 7 and config.writers == ("jsonl",)


def test_run_goes_on_and_lists_its_starts(tmp_path):
    opened(tmp_path, "seed=7")
    first = run_json(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    opened(tmp_path, "seed=7", "total_env_steps=5")
    run = run_json(tmp_path)
    assert len(run["starts"]) == 2 and run["starts"][0] == first["starts"][0]
    assert {**run, "starts": None} == {**first, "starts": None}
    assert run_folder.read_config(tmp_path).total_env_steps == 5


def test_run_does_not_go_on_with_another_config(tmp_path):
    opened(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = refusal(tmp_path, "ppo.gamma=0.5")
    assert "config.ppo.gamma=0.5" in message and "0.99" in message and "a new --workdir" in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seed": -1}', '{"ppo": {"gama": 0.9}}', "\udcff"])
def test_unreadable_config_json_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'config.json'} cannot be read (")
    assert message.endswith("restore the file, or give a new --workdir")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format_version": 1, "starts": 3}'])
def test_unreadable_run_json_is_refused(text, tmp_path):
    opened(tmp_path)
    (tmp_path / "run.json").write_text(text)
    assert "delete the file, or give a new --workdir" in refusal(tmp_path)


def test_run_of_another_format_is_refused(tmp_path):
    opened(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**run_json(tmp_path), "format_version": 2}))
    assert "run.json has format_version=2, not 1; go on with the jaxrl that wrote it" in refusal(tmp_path)


def test_start_that_was_killed_between_its_two_files_goes_on(tmp_path):
    opened(tmp_path)
    (tmp_path / "run.json").unlink()
    opened(tmp_path)
    assert len(run_json(tmp_path)["starts"]) == 1


def test_start_that_was_killed_while_writing_goes_on(tmp_path):
    (tmp_path / ".config.json.tmp").write_text('{"se')
    opened(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "run.json"]


def test_failing_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    opened(tmp_path)
    before = (tmp_path / "config.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = refusal(tmp_path, "total_env_steps=5")
    assert "No space left on device" in message and "give another --workdir" in message
    assert (tmp_path / "config.json").read_bytes() == before


def test_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    assert refusal(tmp_path) == (f"--workdir={tmp_path} is no run folder but holds 'thesis.tex'; give a new --workdir")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file") == f"--workdir={tmp_path / 'file'} is a file; give a folder"
    assert "cannot be written" in refusal(tmp_path / "file" / "below")


def test_name_that_no_folder_can_have_is_refused(tmp_path):
    for name in ("x" * 10_000, "a\0b"):
        assert "give another --workdir" in refusal(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    assert "give another --workdir" in refusal(tmp_path)
    assert "give another --workdir" in refusal(tmp_path / "below")


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_commit_is_noted_and_whether_files_were_changed(tmp_path):
    (tmp_path / "file").write_text("one")
    git(tmp_path, "init")
    assert run_folder._git(tmp_path) is None  # no commit yet
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    clean = run_folder._git(tmp_path)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert run_folder._git(tmp_path) == {**clean, "dirty": True}


def test_no_git_is_no_failure(tmp_path, monkeypatch):
    assert run_folder._git(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    opened(tmp_path / "run")
    assert run_json(tmp_path / "run")["git"] is None
