"""Checkpoints of rl_games as runs: what moves beside the weights, what goes on from there, and what is refused.

The checkpoints are those of tests/parity, where the policies' outputs are held to rl_games' own.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import convert
from jaxrl.functional import vectors
from jaxrl.host import policies, rl_games, run_folder
from jaxrl.host.rl_games import pth
from jaxrl.types import Box, ConfigError

PARITY = Path(__file__).parents[1] / "parity" / "rl_games_checkpoints"


@pytest.fixture(scope="module")
def params():
    """The params of a case, with other values by dotted path."""
    with np.load(PARITY / "answers.npz") as file:
        texts = {name.removesuffix("/params"): str(file[name]) for name in file.files if name.endswith("/params")}

    def get(name, **changes):
        made = json.loads(texts[name])
        for path, value in changes.items():
            *blocks, last = path.split("__")
            block = made
            for each in blocks:
                block = block.setdefault(each, {})
            block[last] = value
        return made

    return get


def arguments(folder, params, name):
    yaml = folder / f"{name}.yaml"
    yaml.write_text(json.dumps({"params": params}))
    pth = str(PARITY / f"{name}.pth")
    return [str(yaml), "--out", str(folder / f"{name}.py"), "--checkpoint", pth, "--workdir", str(folder / "run")]


@pytest.fixture(scope="module")
def brax(params, tmp_path_factory):
    """(experiment, run folder) of a policy whose environment is there."""
    folder = tmp_path_factory.mktemp("brax")
    assert convert.main(arguments(folder, params("brax"), "brax")) == 0
    return folder / "brax.py", folder / "run"


def test_adams_moments_the_rate_and_the_counters_move_too(brax):
    raw = pth.read(PARITY / "brax.pth")
    agent = jaxrl.load_policy(brax[1]).agent
    assert int(agent.updates) == raw["epoch"] == 2
    assert policies.locate(brax[1]).env_steps == raw["frame"] == 64
    assert float(agent.hyper.learning_rate) == np.float32(raw["optimizer"]["param_groups"][0]["lr"])
    adam = agent.optimizer["joint"]
    assert int(adam.count) == 8  # 2 epochs of 2 passes of 2 minibatches
    order = [name for name in raw["model"] if name.startswith("a2c_network")]
    weights = {
        "a2c_network.mu.weight": ("policy_head", "mean"),
        "a2c_network.actor_mlp.0.weight": ("policy_torso", "Dense_0"),
    }
    for vector, key in ((adam.mu, "exp_avg"), (adam.nu, "exp_avg_sq")):
        moments = vectors.part(vector, agent.params)
        for name, (branch, layer) in weights.items():
            theirs = raw["optimizer"]["state"][order.index(name)][key]
            np.testing.assert_array_equal(moments[branch][layer]["kernel"], theirs.T)
            assert np.any(theirs)


def test_moments_keep_the_digits_of_float64(brax):
    theirs = pth.read(PARITY / "brax.pth")["model"]
    ours = jaxrl.load_policy(brax[1]).agent.obs_moments
    for pair, name in ((ours.mean, "mean"), (ours.variance, "var")):
        exact = np.asarray(pair[0], np.float64) + np.asarray(pair[1], np.float64)
        np.testing.assert_allclose(exact, theirs[f"running_mean_std.running_{name}"], rtol=1e-12)
    assert float(ours.count[0]) == theirs["running_mean_std.count"]


@pytest.mark.slow
def test_the_run_goes_on_from_there(brax):
    experiment, run = brax
    before = jaxrl.load_policy(run).agent
    after = jaxrl.train(experiment, run, {"total_env_steps": 128, "eval.episodes": 0})
    assert (after.env_steps, int(after.state.agent.updates)) == (128, 4)
    assert [row["env_steps"] for row in after.history][0] > 64
    assert float(after.state.agent.obs_moments.count[0]) == float(before.obs_moments.count[0]) + 64
    assert int(after.state.agent.optimizer["joint"].count) == 8 + 8
    moved = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - b).max(), before.params, jax.device_get(after.state.agent.params)
    )
    assert 0 < max(jax.tree.leaves(moved)) < 0.2
    assert policies.steps(run / "checkpoints", after.config)[-1] == 128


def test_a_policy_needs_no_environment(params, tmp_path, monkeypatch):
    assert convert.main(arguments(tmp_path, params("shared"), "shared")) == 0
    spec = run_folder.read_spec(tmp_path / "run")
    policy = jaxrl.load_policy(tmp_path / "run")
    assert policy.spec == spec and spec.obs.shape == (3,) and spec.action == Box((2,))
    assert policy(np.zeros(3, np.float32)).shape == (2,)
    monkeypatch.setitem(sys.modules, "torch", None)  # also where it is installed
    with pytest.raises(ConfigError, match="torch"):
        jaxrl.train(tmp_path / "shared.py", tmp_path / "run")


def test_the_number_of_environments_follows_from_the_counters(params, tmp_path):
    made = params("shared", config__num_actors=-1)
    assert convert.main(arguments(tmp_path, made, "shared")) == 0
    assert run_folder.read_config(tmp_path / "run").ppo.num_envs == 8
    assert policies.locate(tmp_path / "run").env_steps == 64


def test_what_rl_games_does_otherwise_is_set_for_the_checkpoint(params, tmp_path):
    made = params("separate", config__mixed_precision=True, network__normalization="layer_norm")
    (tmp_path / "some.yaml").write_text(json.dumps({"params": made}))
    conversion, config, _ = rl_games.move(tmp_path / "some.yaml", PARITY / "separate.pth")
    assert (config.network.dtype, config.network.layer_norm) == ("float32", False)
    assert config.network.log_std_bounds == (-20.0, 20.0)
    assert config == jaxrl.configure(conversion.config)
    assert any("acts in float32" in line for line in conversion.lost)


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("shared", {"network__mlp__units": [8, 7]}, ("mu.weight [2, 6]", "[7, 2]")),
        ("shared", {"network__mlp__units": [8, 6, 4]}, ("mu.weight [2, 6]", "[4, 2]")),
        ("shared", {"network__mlp__units": [8]}, ("mu.weight [2, 6]", "[8, 2]")),
        ("shared", {"network__mlp__units": [8, 6, 6]}, ("actor_mlp, layer 2", "missing")),
        ("shared", {"network__separate": True}, ("critic_mlp", "missing")),
        ("separate", {"network__separate": False}, ("critic_mlp.0.weight [8, 3]", "left over")),
        ("shared", {"config__normalize_input": False}, ("normalize_input=False",)),
        ("shared", {"config__normalize_value": False}, ("normalize_value=False",)),
        ("lstm", {"network__rnn": None}, ("mu.weight", "does not fit")),
        ("shared", {"network__value_activation": "relu"}, ("value_activation='relu'",)),
        ("shared", {"network__space__continuous__mu_activation": "tanh"}, ("mu_activation='tanh'",)),
        ("d2rl", {"network__normalization": "layer_norm"}, ("network.normalization",)),
        ("cnn", {"network__cnn__permute_input": False}, ("permute_input=False",)),
        ("central", {"config__central_value_config__network__mlp__activation": "relu"}, ("mlp.activation='relu'",)),
        ("central", {"config__central_value_config__normalize_input": False}, ("normalize_input=False",)),
        ("brax", {"config__env_config__env_name": "ant"}, ("brax/ant shows the policy [27]", "read [4]")),
    ],
)
def test_a_yaml_of_another_policy_is_refused_in_one_line(name, changes, words, params, tmp_path, capsys):
    assert convert.main(arguments(tmp_path, params(name, **changes), name)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and all(word in said for word in words), said
    assert not (tmp_path / f"{name}.py").exists() and not (tmp_path / "run").exists()


def test_half_a_command_line_is_refused(params, tmp_path, capsys):
    given = arguments(tmp_path, params("shared"), "shared")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    for some, words in (
        (given[:-2], "--workdir=RUN"),
        ([*given[:3], *given[5:]], "--checkpoint=FILE.pth"),
        (given, "give a new one"),
    ):
        assert convert.main(some) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "shared.py").exists()
