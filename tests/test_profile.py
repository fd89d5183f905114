"""python -m jaxrl.profile: the stages of an iteration, what they cost and what they compute."""

import importlib
import json

import pytest

main = importlib.import_module("jaxrl.profile").main

T, N, H, P, B = 8, 16, 32, 2, 2  # steps, environments, hidden units, passes, minibatches
EXPERIMENT = f"""
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.env = {{"suite": "probe", "name": "fuse"}}
    config.network = {{"hidden_sizes": ({H},), "shared": True, "log_std": "fixed"}}
    config.ppo = {{"num_envs": {N}, "unroll_length": {T}, "num_minibatches": {B}, "update_epochs": {P}}}
    config.eval = {{"episodes": 0}}
    return config
"""


@pytest.fixture
def experiment(tmp_path):
    file = tmp_path / "fuse.py"
    file.write_text(EXPERIMENT)
    return f"--config={file}"


@pytest.mark.slow
def test_the_stages_and_their_products(experiment, tmp_path, capsys):
    assert main([experiment, "--json", f"--trace={tmp_path / 'trace'}"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["env"] == "probe/fuse" and told["env_steps"] == T * N
    stages = {stage["name"]: stage for stage in told["stages"]}
    assert list(stages) == ["environments", "policy", "rollout", "update", "iteration"]
    assert all(stage["seconds"] > 0 and stage["scratch"] >= 0 for stage in stages.values())
    products = {name: stage["cost"]["products"] for name, stage in stages.items()}
    # One layer from 2 numbers, one mean and one value on it.
    layer, heads = 2 * 2 * H, 2 * H * 2
    assert products["environments"] == 0
    assert products["policy"] == products["rollout"] == T * N * (layer + heads)
    # Of each sample in each pass: forward; to the weights; to the layer's output, but not to the observation. And the
    # value of what follows the last step, and of the end of the truncated episode.
    passes = P * T * N * (2 * (layer + heads) + heads)
    assert passes <= products["update"] <= passes + 2 * T * N * (layer + heads)
    assert products["iteration"] == products["rollout"] + products["update"]
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_the_table_has_a_row_for_each_stage(experiment, capsys):
    assert main([experiment, "--config.ppo.num_envs=32"]) == 0
    head, _, columns, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith(f"probe/fuse, {T * 32} env steps an iteration, on one ")
    assert [row.split("|")[1].strip() for row in rows] == ["environments", "policy", "rollout", "update", "iteration"]
    assert {row.count("|") for row in (columns, rule, *rows)} == {11}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trace"], "--trace needs a folder; write --trace=FOLDER."),
        (["--config.ppo.num_env=3"], "did you mean config.ppo.num_envs=3?"),
        (["--tracee=x"], "--tracee"),
    ],
)
def test_bad_flags_are_one_line(experiment, flags, words, capsys):
    assert main([experiment, *flags]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.gymnasium
def test_environments_on_the_host_are_timed_as_they_are_called(tmp_path, capsys):
    file = tmp_path / "cart.py"
    file.write_text(
        EXPERIMENT.replace('"suite": "probe", "name": "fuse"', '"suite": "gymnasium", "name": "CartPole-v1"')
    )
    assert main([f"--config={file}", "--config.network.log_std=free", "--json"]) == 0
    environments, rest, whole = json.loads(capsys.readouterr().out)["stages"]
    assert 0 < environments["seconds"] < whole["seconds"]
    assert abs(environments["seconds"] + rest["seconds"] - whole["seconds"]) < 1e-9
