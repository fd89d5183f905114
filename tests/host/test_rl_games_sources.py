"""Where the yamls of rl_games come from: Isaac Gym's Hydra, Isaac Lab, files that stand on others."""

import functools
import textwrap

import pytest

from tests.host.rl_games_examples import PENDULUM, converted, replaced


@pytest.fixture
def convert(tmp_path):
    return functools.partial(converted, tmp_path)


ISAAC_GYM = [
    ("seed: 7", "seed: ${...seed}\n      load_checkpoint: ${if:${...checkpoint},True,False}"),
    ("env_name: brax", "env_name: rlgpu\n        full_experiment_name: ${.name}"),
    ("name: Pendulum", "name: ${resolve_default:Ant,${....experiment}}"),
    ("max_epochs: 100", "max_epochs: ${resolve_default:500,${....max_iterations}}\n        score_to_win: 20000"),
    ("num_actors: 16", "num_actors: ${....task.env.numEnvs}"),
    ("minibatch_size: 64", "minibatch_size: 24576"),
    ("        env_config:\n          env_name: inverted_pendulum\n", ""),
]


def test_isaac_gym_interpolations_are_their_defaults_or_named(convert):
    conversion = convert(replaced(*ISAAC_GYM))
    # 24576 of 8 steps are 3072 environments; the usual 4096 is nearest to one of those, not two.
    assert conversion.config["ppo"]["num_envs"] == 3072
    assert conversion.config["total_env_steps"] == 500 * 3072 * 8
    assert "seed" not in conversion.config
    assert conversion.title.startswith("Ant, ")
    assert conversion.read[0].endswith("name=Ant, max_epochs=500")
    assert conversion.read[1].endswith(
        "params.seed=${...seed}, params.load_checkpoint=${if:${...checkpoint},True,False}, "
        "num_actors=${....task.env.numEnvs}"
    )
    assert any("ppo.num_envs=3072 is a guess" in line for line in conversion.lost)


def test_a_whole_run_that_hydra_wrote_down_decides_what_its_training_part_leaves_open(convert):
    training = textwrap.dedent(replaced(*ISAAC_GYM))
    text = "seed: 11\nmax_iterations: ''\ntask: {env: {numEnvs: 6144}}\ntrain:\n" + textwrap.indent(training, "  ")
    conversion = convert(text)
    assert conversion.config["seed"] == 11 and conversion.config["ppo"]["num_envs"] == 6144
    assert conversion.config["total_env_steps"] == 500 * 6144 * 8
    assert conversion.read[1].endswith("params.load_checkpoint=${if:${...checkpoint},True,False}")


def test_isaac_says_what_is_to_be_written_and_evaluates_on_no_second_simulator(convert):
    conversion = convert(replaced(*ISAAC_GYM))
    assert conversion.config["env"] == {"suite": "torch_bridge", "name": "isaac.simulator"}
    assert conversion.config["eval"] == {"episodes": 0} and "stop" not in conversion.config
    assert any("write isaac.py with simulator(num_envs, **options)" in line for line in conversion.lost)


def test_isaac_lab_leaves_the_number_of_environments_to_the_task(convert):
    text = replaced(
        ("seed: 7", "seed: 42\n      env: {clip_observations: 5.0, clip_actions: 1.0}"),
        (
            "env_name: brax",
            "env_name: rlgpu\n        device: 'cuda:0'\n        device_name: 'cuda:0'\n        ppo: True",
        ),
        ("num_actors: 16", "num_actors: -1"),
        ("minibatch_size: 64", "minibatch_size: 32768"),
        ("        env_config:\n          env_name: inverted_pendulum\n", ""),
    )
    conversion = convert(text)
    assert conversion.config["ppo"]["num_envs"] == 4096 and conversion.config["seed"] == 42
    assert conversion.unknown == []


def test_a_file_stands_on_those_that_its_defaults_name(convert, tmp_path):
    (tmp_path / "BasePPO.yaml").write_text(textwrap.dedent(PENDULUM))
    conversion = convert(
        """
        defaults:
          - BasePPO
          - _self_
        params:
          network:
            rnn: {name: gru, units: 8, layers: 1}
          config:
            gamma: 0.9
        """
    )
    assert conversion.config["network"]["core"] == "gru" and conversion.config["network"]["hidden_sizes"] == (32, 16)
    assert conversion.config["ppo"]["gamma"] == 0.9 and conversion.config["ppo"]["lambda_"] == 0.9


def test_a_block_of_hydra_around_it_is_seen_through(convert):
    assert convert("agent:\n" + textwrap.indent(textwrap.dedent(PENDULUM), "  ")).config == convert(PENDULUM).config


def test_a_number_that_yaml_reads_as_a_text_is_a_number_and_named(convert):
    conversion = convert(PENDULUM)
    assert conversion.read == [
        "taken as numbers, though YAML 1.1 reads them as texts: learning_rate=5e-4 (write 3.0e-4 for 3e-4)"
    ]
