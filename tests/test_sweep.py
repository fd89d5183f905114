"""The door of sweeps: its flags, and what it says of those that are none."""

import importlib
from pathlib import Path

import pytest

from jaxrl.types import ConfigError

sweep = importlib.import_module("jaxrl.sweep")
EXPERIMENT = Path(__file__).parent / "host" / "probe_experiment.py"


def test_help_tells_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"--{name}" in told for name in (*sweep.OWN, "config", "workdir"))


def test_the_flags_are_read():
    argv = ["--config=ant", "--seeds=0,3", "--sweep", "ppo.clip=0.1,0.2", "--wave=4", "--config.ppo.gamma=0.9"]
    arguments = sweep.parse(argv)
    assert arguments.seeds == [0, 3] and arguments.wave == 4 and arguments.overrides == [("ppo.gamma", "0.9")]
    assert arguments.axes == {"ppo.clip": ["0.1", "0.2"]}
    assert arguments.workdir == Path("runs/ant_sweep")  # runs/ant is a run's
    assert sweep.parse([*argv, "--workdir=runs/x"]).workdir == Path("runs/x")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seed=3"], "did you mean --seeds=3"),
        (["--swep=ppo.clip=1"], "did you mean --sweep=ppo.clip=1"),
        (["--wave=many"], "--wave=many must be a whole number"),
        (["--mapping=vmpa"], "did you mean 'vmap'"),
        (["--engine=locl"], "did you mean 'local'"),
        (["--sweep"], "--sweep needs a value"),
        (["--sweep=ppo.clipp=0.1,0.2"], "config.ppo.clipp is not a key; did you mean config.ppo.clip"),
        (["--config.ppo.clipp=1"], "config.ppo.clipp is not a key; did you mean config.ppo.clip"),
    ],
)
def test_what_is_mistyped_is_one_line_and_status_2(flags, message, tmp_path, capsys):
    status = sweep.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'sweep'}", *flags])
    errors = capsys.readouterr().err
    assert status == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert sweep.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path}", "--seeds=2"]) == 2
    assert "is no sweep but holds 'notes.txt'" in capsys.readouterr().err
    (tmp_path / "notes.txt").rename(tmp_path / "config.json")
    assert sweep.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path}", "--seeds=2"]) == 2
    assert "holds a run, not a sweep" in capsys.readouterr().err


def test_several_seeds_of_a_training_are_a_sweep(tmp_path, capsys):
    train = importlib.import_module("jaxrl.train")
    flags = ["--config.seeds=8", "--config.total_env_steps=128", "--config.eval.episodes=0"]
    assert train.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'run'}", *flags]) == 0
    assert sorted(path.name for path in (tmp_path / "run").glob("seed=*")) == [f"seed={seed}" for seed in range(8)]
    assert (tmp_path / "run" / "plots" / "sweep.png").stat().st_size > 10_000
    assert "seed=7" in capsys.readouterr().out


def test_several_seeds_are_no_single_run(tmp_path):
    import jaxrl

    with pytest.raises(ConfigError, match="config.seeds=2 .* jaxrl.sweep"):
        jaxrl.train(EXPERIMENT, tmp_path / "run", {"seeds": 2})
    assert not (tmp_path / "run").exists()
