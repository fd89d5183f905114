"""A run of rl_games, made on the spot, becomes one of ours: the same outputs, and training goes on.

rl_games runs in a process of its own, in the Python that RL_GAMES_PYTHON names (by default the one of the tests): it
wants another psutil than jaxrl is tested with. That Python needs rl-games==1.6.5, torch and gymnasium.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import convert

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("run_rl_games.py")
NETWORK = {
    "name": "actor_critic",
    "separate": False,
    "mlp": {"units": [16, 8], "activation": "elu", "initializer": {"name": "default"}},
}
GAUSSIAN = {
    "continuous": {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": {"name": "const_initializer", "val": 0},
        "fixed_sigma": True,
    }
}
CONFIG = {
    "name": "short",
    "device": "cpu",
    "torch_compile": False,
    "mixed_precision": False,
    "normalize_input": True,
    "normalize_value": True,
    "normalize_advantage": True,
    "reward_shaper": {"scale_value": 0.1},
    "gamma": 0.95,
    "tau": 0.95,
    "learning_rate": 1e-3,
    "lr_schedule": "adaptive",
    "kl_threshold": 0.016,
    "max_epochs": 4,
    "grad_norm": 1.0,
    "truncate_grads": True,
    "entropy_coef": 0.0,
    "e_clip": 0.2,
    "clip_value": False,
    "horizon_length": 32,
    "num_actors": 8,
    "minibatch_size": 128,
    "mini_epochs": 2,
    "critic_coef": 2,
    "bounds_loss_coef": 1e-4,
}
KINDS = {
    "Pendulum-v1": ("a2c_continuous", "continuous_a2c_logstd", GAUSSIAN),
    "CartPole-v1": ("a2c_discrete", "discrete_a2c", {"discrete": {}}),
}


@pytest.mark.rl_games
@pytest.mark.parametrize("name", KINDS)
def test_a_run_of_rl_games_becomes_one_of_ours(name, tmp_path):
    algorithm, model, space = KINDS[name]
    params = {"seed": 1, "algo": {"name": algorithm}, "model": {"name": model}, "network": NETWORK | {"space": space}}
    yaml = tmp_path / "short.yaml"
    yaml.write_text(json.dumps({"params": params | {"config": CONFIG | {"env_name": name}}}))  # JSON is YAML
    python = os.environ.get("RL_GAMES_PYTHON", sys.executable)
    done = subprocess.run([python, SCRIPT, yaml, tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "answers.npz") as file:
        answers = dict(file)

    experiment, run = tmp_path / "short.py", tmp_path / "moved"
    checkpoint = str(answers["checkpoint"])
    assert convert.main([str(yaml), "--out", str(experiment), "--checkpoint", checkpoint, "--workdir", str(run)]) == 0
    policy = jaxrl.load_policy(run)
    assert policy.env_steps == 4 * 32 * 8
    obs = answers["obs"]
    act = jax.jit(policy.algorithm.act)
    _, _, memo = act(policy.agent, (), obs, jnp.zeros(len(obs), bool), jax.random.key(0))
    np.testing.assert_allclose(memo.value, answers["value"][:, 0], atol=1e-5, rtol=1e-5)
    if "mean" in answers:
        np.testing.assert_allclose(policy(obs), answers["mean"], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(jnp.exp(memo.distribution.log_std), answers["std"], atol=1e-5, rtol=1e-5)
    else:
        logits = jax.nn.log_softmax(memo.distribution.logits)
        np.testing.assert_allclose(logits, answers["logits"], atol=1e-5, rtol=1e-5)
    after = jaxrl.train(experiment, run, {"total_env_steps": 6 * 32 * 8, "eval.episodes": 0})
    assert after.env_steps == 6 * 32 * 8 and int(after.state.agent.updates) == 6


@pytest.mark.rl_games
def test_every_yaml_that_rl_games_ships_has_its_row_in_the_documentation():
    python = os.environ.get("RL_GAMES_PYTHON", sys.executable)
    told = [python, "-c", "import importlib.util; print(importlib.util.find_spec('rl_games').origin)"]
    origin = subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    file = ROOT / "docs" / "make_rl_games_yamls.py"
    maker = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("maker", file))
    spec.loader.exec_module(maker)
    page = maker.page(Path(origin).parent / "configs")
    assert page.count("\n| `") == 157 and page.count("| converted |") == 138
    assert page == maker.PAGE.read_text(encoding="utf-8")
