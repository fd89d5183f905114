"""The door `python -m jaxrl.play`: what it prints is what a hand-written loop measures."""

import importlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

import jaxrl
from jaxrl.host import playing

play = importlib.import_module("jaxrl.play")
EXPERIMENT = Path(__file__).parent / "host" / "probe_experiment.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    short = {"total_env_steps": 512, "env.name": "target", "checkpoint.interval": 256, "eval.episodes": 4}
    return jaxrl.train(EXPERIMENT, tmp_path_factory.mktemp("runs") / "target", short).workdir


@pytest.fixture
def door(capsys):
    """(exit status, what is printed, errors) of a command line."""

    def call(*arguments):
        status = play.main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    return call


def by_hand(run, num, seed):
    """Returns and lengths of N episodes under the deterministic policy, from the initial states of that seed."""
    policy = jaxrl.load_policy(run)
    env = jaxrl.envs.make(policy.config.env, num, restarts=False)
    state, timestep = env.reset(jax.random.split(jax.random.key(seed))[0])
    alive, returns, lengths = np.ones(num, bool), np.zeros(num), np.zeros(num, int)
    step = jax.jit(env.step)
    while alive.any():
        state, timestep = step(state, policy(timestep.obs))
        returns[alive] += np.asarray(timestep.reward)[alive]
        lengths[alive] += 1
        alive &= ~np.asarray(timestep.terminated | timestep.truncated)
    return returns, lengths


def test_the_returns_are_those_of_a_loop_by_hand(run, door):
    status, printed, errors = door(run, "--json", "--episodes=16", "--seed=3")
    assert (status, errors) == (0, "")
    told, (returns, lengths) = json.loads(printed), by_hand(run, 16, 3)
    assert told["lengths"] == lengths.tolist() and told["episodes"] == 16 and told["env_steps"] == 512
    np.testing.assert_allclose(told["returns"], returns, rtol=1e-6)
    for name, statistic in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        assert told[name] == pytest.approx(float(statistic(returns)), rel=1e-5)
    assert told["deterministic"] and told["cut_off"] == 0 and np.ptp(returns) > 0


def test_a_memory_plays_as_it_does_by_hand(tmp_path, door, capsys):
    short = {"total_env_steps": 64, "env.name": "recall", "network.core": "gru", "network.core_size": 8}
    run = jaxrl.train(EXPERIMENT, tmp_path / "recall", short | {"eval.episodes": 0, "ppo.learning_rate": 0.1}).workdir
    capsys.readouterr()
    told, (returns, lengths) = json.loads(door(run, "--json", "--episodes=32")[1]), by_hand(run, 32, 0)
    assert told["returns"] == returns.tolist() and set(told["returns"]) <= {0.0, -2.0}
    assert told["lengths"] == lengths.tolist() == [4] * 32


def test_it_says_in_three_lines_how_good_the_policy_is(run, door):
    status, printed, _ = door(run, "--episodes=8", "--checkpoint=256")
    number = r"-?[\d.e-]+"
    assert status == 0 and re.fullmatch(
        r"target \(probe\) after 256 env steps: 8 deterministic episodes\n"
        rf"return  mean {number} ± {number} std, IQM {number} \[{number}, {number}\], min {number}, max {number}\n"
        r"length  mean 1, min 1, max 1\n",
        printed,
    )


def test_the_seed_decides_what_is_played_and_sampling_differs(run, door):
    def returns(*arguments):
        return json.loads(door(run, "--json", "--episodes=8", *arguments)[1])["returns"]

    first = returns()
    assert returns("--seed=0") == first
    assert returns("--seed=1") != first
    assert np.mean(returns("--sampled")) < np.mean(first)  # noise of std 1 around targets in [-0.5, 0.5]


def test_iqm_is_rliables():
    values = np.random.default_rng(0).normal(size=(101, 3))
    assert playing.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=None))
    assert playing.iqm(np.array([1.0, 100.0, 2.0, 3.0])) == 2.5  # 1 and 100 go
    assert playing.iqm(np.array([1.0, 2.0, 6.0])) == 3.0  # too few for a quarter to go


def test_the_interval_covers_the_true_iqm_as_often_as_it_says():
    # Normal returns: their true IQM is their mean, 0. A binomial of 200 tries at 0.95 is in [180, 200] but once in 10⁴.
    random = np.random.default_rng(0)
    intervals = [playing.interval(random.normal(size=60), seed) for seed in range(200)]
    assert 180 <= sum(low <= 0.0 <= high for low, high in intervals)
    widths = [high - low for low, high in intervals]
    # The asymptotic standard error of a 25 % trimmed mean of normal values is 1.09 / √n.
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 1.09 / np.sqrt(60), rel=0.1)


def test_agents_of_one_episode_are_drawn_together():
    returns = np.repeat([[0.0], [1.0], [2.0], [3.0]] * 4, 50, axis=1)  # 50 agents that fare alike tell no more than one
    together, alone = playing.interval(returns), playing.interval(returns[:, :1])
    assert together[1] - together[0] > 0.6 * (alone[1] - alone[0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=lates"], "checkpoint 'lates' does not exist; did you mean 'latest'?"),
        (["--checkpoint=300"], "the nearest of 256, 512 is 256"),
        (["--episodes=0"], "episodes=0 is out of range; choose 1 or more."),
        (["--episodes=many"], "--episodes: invalid int value: 'many'"),
        (["--seed=-1"], "seed=-1 is out of range"),
        (["--episode=4"], "'--episode=4' is not understood; did you mean '--episodes'?"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, door, arguments, message):
    status, printed, errors = door(run, *arguments)
    assert (status, printed) == (2, "")
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors


def test_no_run_is_one_line_and_status_2(door, tmp_path):
    for arguments in ([], [tmp_path], [tmp_path / "nothing"]):
        status, printed, errors = door(*arguments)
        assert (status, printed, errors.count("\n")) == (2, "", 1)


def test_an_episode_without_end_is_cut_off_and_said_to_be(run, door, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["eval"]["max_steps"] = 3
    config["env"]["name"] = "clock"
    (tmp_path / "config.json").write_text(json.dumps(config))
    printed = door(tmp_path, f"--checkpoint={run / 'checkpoints' / '512'}", "--episodes=4")[1]
    assert printed.endswith("length  mean 3, min 3, max 3\n4 were cut off after 3 steps\n")
    assert "mean 3 ± 0 std" in printed
