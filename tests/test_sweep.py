"""The door of sweeps: its flags, and what it says of those that are none."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from jaxrl.types import ConfigError

sweep = importlib.import_module("jaxrl.sweep")
EXPERIMENT = Path(__file__).parent / "host" / "probe_experiment.py"
POPULATION = ["--sweep=ppo.clip=0.1,0.2"]


def test_help_tells_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"--{name}" in told for name in (*sweep.OWN, "config", "workdir"))
    # An engine's are told with what stands behind them in its Options.
    assert re.search(r"Of --engine=local:\n.*--wave=0 +runs at once; 0 = as many as fit into memory", told, re.S)
    assert re.search(r"Of --engine=ray:\n.*--scheduler=asha\|none\n? +asha stops early", told, re.S)
    assert max(map(len, told.splitlines())) <= 120


def test_the_flags_are_read():
    argv = ["--config=ant", "--seeds=0,3", "--sweep", "ppo.clip=0.1,0.2", "--wave=4", "--config.ppo.gamma=0.9"]
    arguments = sweep.parse(argv)
    assert (
        arguments.seeds == [0, 3] and arguments.options == {"wave": 4} and arguments.overrides == [("ppo.gamma", "0.9")]
    )
    assert arguments.axes == {"ppo.clip": ["0.1", "0.2"]}
    assert arguments.workdir == Path("runs/ant_sweep")  # runs/ant is a run's
    assert sweep.parse([*argv, "--workdir=runs/x"]).workdir == Path("runs/x")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seed=3"], "did you mean --seeds=3"),
        (["--swep=ppo.clip=1"], "did you mean --sweep=ppo.clip=1"),
        (["--wave=many"], "--wave='many' must be a whole number"),
        (["--wave=-1"], "--wave=-1 is out of range; it must lie in [0, inf); the nearest is 0"),
        (["--gpus_per_trial=1"], "--gpus_per_trial=1 is a flag of --engine=ray, not of --engine=local"),
        (["--engine=ray", "--wave=2"], "--wave=2 is a flag of --engine=local, not of --engine=ray"),
        (["--engine=ray", "--gpu_per_trial=1"], "did you mean --gpus_per_trial=1"),
        (["--engine=ray", "--search=tpe"], "--search='tpe' is not a choice; choose one of optuna, random, grid"),
        (["--engine=ray", "--scheduler=ashaa"], "did you mean 'asha'"),
        (["--engine=ray", "--search=optuna"], "--search=optuna takes both axes and --samples"),
        (["--engine=ray", "--sweep=ppo.gamma=uniform(0.9,1)"], "--search=optuna takes both axes and --samples"),
        (["--engine=ray", "--search=random", "--sweep=ppo.gamma=0.9,1"], "--search=random has nothing to draw"),
        (["--engine=ray", "--search=grid", "--sweep=ppo.gamma=uniform(0.9,1)"], "cannot try all of ppo.gamma=uniform"),
        (["--engine=ray", "--sweep=ppo.gamma=uniform(0.9,2)", "--samples=2"], "config.ppo.gamma=2.0 is out of range"),
        (["--engine=ray", "--storage=sqlite:///a.db"], "is for --search=optuna"),
        (["--engine=ray", "--config.eval.episodes=0"], "config.eval.episodes=0 makes none"),
        (["--engine=json.decoder"], "--engine=json.decoder has not all of Options, crew and run"),
        (["--mapping=vmpa"], "did you mean 'vmap'"),
        (["--engine=locl"], "did you mean 'local'"),
        (["--sweep"], "--sweep needs a value"),
        (["--pbt_fraction=0.2"], "--pbt_fraction is of a population; give --pbt=ENV_STEPS too"),
        (["--pbt=often"], "--pbt=often cannot be read; write --pbt=100000"),
        ([*POPULATION, "--pbt=0"], "--pbt=0 must be a number of env steps"),
        ([*POPULATION, "--pbt=2560"], "--pbt=2560 must be below config.total_env_steps=2560"),
        ([*POPULATION, "--pbt=256", "--pbt_fraction=0.6"], "--pbt_fraction=0.6 must be above 0 and at most 0.5"),
        ([*POPULATION, "--pbt=256", "--pbt_perturb=0.8,-1"], "--pbt_perturb=(0.8, -1.0) must be factors above 0"),
        ([*POPULATION, "--pbt=256", "--pbt_perturb=wide"], "--pbt_perturb=wide cannot be read"),
        ([*POPULATION, "--pbt=256", "--pbt_resample=2"], "--pbt_resample=2.0 must be a probability"),
        ([*POPULATION, "--pbt=256", "--pbt_resmple=2"], "did you mean --pbt_resample=2"),
        (["--seeds=4", "--pbt=256"], "--pbt changes what is swept, and nothing is but the seed"),
        (["--sweep=ppo.clip=0.1", "--pbt=256"], "--pbt makes a population of the members, and there is one"),
        (["--sweep=env.name=fuse,clock", "--pbt=256"], "env.name='fuse' is no number; give it by --config.env.name"),
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


def test_a_cluster_without_its_libraries_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    status = sweep.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'sweep'}", "--engine=ray"])
    errors = capsys.readouterr().err
    assert status == 2 and errors.count("\n") == 1 and "pip install 'jaxrl[sweep]'" in errors


def test_an_engine_of_ones_own_is_named_by_its_dotted_path_and_has_flags(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "engine.py").write_text(
        "from typing import NamedTuple\n"
        "from jaxrl.host.sweeping import members\n"
        "class Options(NamedTuple):\n"
        "    command_line: list[str]\n"
        "    request: members.Request\n"
        "    speed: float = 1.0  # of what it does\n"
        "crew = lambda options: members.make(*options.request)\n"
        "run = lambda book, options, say: say(options.speed) or 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = sweep.parse(["--config=ant", "--engine=mine.engine", "--speed=2"])
    assert arguments.options == {"speed": 2.0}


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
