"""Yamls of rl_games, IsaacGymEnvs and Isaac Lab as configs; what is expected follows by hand from rl_games 1.6.5."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.host import config as configs
from jaxrl.host import keys, rl_games
from jaxrl.networks import actor_critic
from jaxrl.types import Box, ConfigError, Spec
from tests.host.rl_games_examples import PENDULUM, converted, replaced


@pytest.fixture
def convert(tmp_path):
    return functools.partial(converted, tmp_path)


def test_every_key_of_a_small_file_has_its_place(convert):
    conversion = convert(PENDULUM)
    assert conversion.config == {
        "seed": 7,
        "total_env_steps": 12_800,  # 100 epochs of 16 x 8
        "env": {"name": "inverted_pendulum"},
        "network": {"hidden_sizes": (32, 16), "shared": True, "policy_gain": 1.0},
        "ppo": {
            "num_envs": 16,
            "unroll_length": 8,
            "minibatch_size": 64,
            "update_epochs": 5,
            "learning_rate": 5e-4,
            "learning_rate_schedule": "adaptive_kl",
            "target_kl": 0.008,
            "kl_reference": "previous",
            "gamma": 0.98,
            "lambda_": 0.9,
            "clip": 0.3,
            "value_clip": 0.3,
            "value_cost": 2.0,
            "entropy_cost": 0.01,
            "bound_cost": 1e-4,
            "max_gradient_norm": 0.5,
            "reward_scale": 0.1,
            "obs_clip": 5.0,
        },
        "checkpoint": {"interval": 1280},  # 10 epochs
    }
    assert conversion.unknown == []
    assert conversion.dead == ["network.mlp.regularizer"]


def test_what_is_set_differs_from_the_defaults(convert):
    given = dict(keys.leaves(convert(PENDULUM).config))
    defaults = dict(keys.leaves(configs.resolve({})))
    assert not {name for name, value in given.items() if defaults[name] == value} - {"env.name", "total_env_steps"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Without truncate_grads the gradient is not scaled down, whatever grad_norm says.
        ([("truncate_grads: True", "truncate_grads: False")], {"ppo.max_gradient_norm": 0.0}),
        ([("clip_value: True", "clip_value: False")], {"ppo.value_clip": 0.0}),
        # Of the networks only shared ones have gradients of both losses.
        ([("separate: False", "separate: True")], {"network.shared": False}),
        # normalize_value is False where it is missing.
        ([("normalize_value: True", "")], {"ppo.normalize_value": False}),
        ([("normalize_advantage: True", "normalize_advantage: False")], {"ppo.normalize_advantage": "no"}),
        ([("scale_value: 0.1", "{min_val: -1, max_val: 1}")], {"ppo.reward_bounds": (-1.0, 1.0)}),
        ([("lr_schedule: adaptive", "lr_schedule: linear")], {"ppo.learning_rate_schedule": "linear"}),
        ([("lr_schedule: adaptive", "lr_schedule: None")], {"ppo.learning_rate_schedule": "constant"}),
        (
            [("kl_threshold: 0.008", "kl_threshold: 0.01\n        schedule_type: standard")],
            {"ppo.adapt_interval": "pass"},
        ),
        # Whichever ends the run first: 1,000 steps here, 12,800 by epochs.
        ([("max_epochs: 100", "max_epochs: 100\n        max_frames: 1000")], {"total_env_steps": 1000}),
        # 16 environments x 4 steps, which are 8 environments with all their 8 steps.
        ([("minibatch_size: 64", "minibatch_size_per_env: 4")], {"ppo.minibatch_size": 64, "ppo.segment_length": 0}),
        # Blocks of 4 steps lie across no end of the 8.
        ([("minibatch_size: 64", "minibatch_size: 4")], {"ppo.minibatch_size": 4, "ppo.segment_length": 4}),
        ([("fixed_sigma: True", "fixed_sigma: False")], {"network.log_std": "state"}),
        # exp(-1)
        ([("val: 0", "val: -1")], {"network.initial_std": 0.367879}),
        ([("continuous_a2c_logstd", "continuous_a2c_tanh")], {"network.distribution": "tanh_normal"}),
        ([("activation: elu", "activation: swish")], {"network.activation": "silu"}),
        ([("e_clip: 0.3", "e_clip: 0.2\n        use_smooth_clamp: True")], {"ppo.surrogate": "smooth_clip"}),
        ([("clip_value: True", "clip_value: True\n        mixed_precision: True")], {"network.dtype": "bfloat16"}),
        (
            [("max_epochs: 100", "max_epochs: 100\n        min_lr: 1e-5\n        max_lr: 1e-3")],
            {"ppo.learning_rate_bounds": (1e-5, 1e-3)},
        ),
        (
            [("max_epochs: 100", "max_epochs: 100\n        bound_loss_type: regularisation")],
            {"ppo.bound_loss": "regularisation"},
        ),
        ([("max_epochs: 100", "max_epochs: 100\n        score_to_win: 90")], {"stop.target_return": 90.0}),
        (
            [("max_epochs: 100", "max_epochs: 100\n        normalize_rms_advantage: True")],
            {"ppo.normalize_advantage": "running"},
        ),
        ([("max_epochs: 100", "max_epochs: 100\n        zero_rnn_on_done: False")], {"network.core_keeps_carry": True}),
        (
            [("lr_schedule: adaptive", "lr_schedule: linear\n        schedule_entropy: True")],
            {"ppo.entropy_schedule": "linear"},
        ),
        (
            [("scale_value: 0.1", "{shift_value: 1, log_val: True}")],
            {"ppo.reward_shift": 1.0, "ppo.reward_log": True, "ppo.reward_bounds": (1e-6, 1e30)},
        ),
        ([("separate: False", "normalization: layer_norm")], {"network.layer_norm": True}),
        ([("activation: elu", "activation: elu\n          d2rl: True")], {"network.d2rl": True}),
        (
            [("separate: False", "rnn: {name: gru, units: 8, layers: 2, layer_norm: True, concat_input: True}")],
            {
                "network.core": "gru",
                "network.core_layers": 2,
                "network.core_layer_norm": True,
                "network.core_concat_input": True,
                "ppo.segment_length": 4,  # seq_length's default
            },
        ),
        (
            [("separate: False", "rnn: {name: lstm, units: 8, layers: 1, concat_output: True}")],
            {"network.core": "lstm", "network.core_size": 8, "network.core_concat_output": True},
        ),
        (
            [
                (
                    "fixed_sigma: True",
                    "fixed_sigma: True\n            sigma_parametrization: softplus\n            min_sigma: 0.1",
                )
            ],
            {"network.std_parametrization": "softplus", "network.min_std": 0.1},
        ),
        (
            [("fixed_sigma: True", "fixed_sigma: True\n            logstd_bounds: [-5, 1]")],
            {"network.log_std_bounds": (-5.0, 1.0)},
        ),
        (
            [
                (
                    "name: actor_critic",
                    "name: tcnnnet\n        network: {n_neurons: 64, n_hidden_layers: 3, activation: ReLU}",
                ),
                ("units: [32, 16]\n          activation: elu\n", "d2rl: False\n"),
            ],
            {"network.hidden_sizes": (64, 64, 64), "network.activation": "relu"},
        ),
        # torch's orthogonal_ with gain √2 is ours, a head of it √2 in all.
        (
            [
                (
                    "            name: default\n          regul",
                    "            name: orthogonal_initializer\n            gain: 1.4142\n          regul",
                )
            ],
            {"network.initializer": "orthogonal", "network.initializer_gain": 1.0, "network.policy_gain": 1.4142},
        ),
        # σ = √(scale / fan_in); ours has √(2 gain² / fan_in).
        (
            [
                (
                    "            name: default\n          regul",
                    "            name: variance_scaling_initializer\n            scale: 0.5\n          regul",
                )
            ],
            {"network.initializer": "kaiming", "network.initializer_gain": 0.5, "network.policy_gain": 0.5},
        ),
    ],
)
def test_a_key_means(convert, changes, expected):
    resolved = dict(keys.leaves(configs.resolve(convert(replaced(*changes)).config)))
    assert {name: resolved[name] for name in expected} == expected


F, A = 128, 8  # inputs of every layer, and actions


@pytest.mark.parametrize(
    ("initializer", "torso", "head"),
    [
        # torch's Linear: U(±1/√fan_in).
        ("{name: default}", 1 / math.sqrt(3 * F), 1 / math.sqrt(3 * F)),
        # Columns of length `gain`, as many as there are outputs.
        ("{name: orthogonal_initializer, gain: 1.4142}", math.sqrt(2 / F), math.sqrt(2 / F)),
        ("{name: orthogonal_initializer, gain: 0.5}", 0.5 / math.sqrt(F), 0.5 / math.sqrt(F)),
        ("{name: glorot_normal_initializer, gain: 1.5}", 1.5 * math.sqrt(2 / (F + F)), 1.5 * math.sqrt(2 / (F + A))),
        ("{name: glorot_uniform_initializer}", math.sqrt(2 / (F + F)), math.sqrt(2 / (F + A))),
        ("{name: variance_scaling_initializer, scale: 0.5}", math.sqrt(0.5 / F), math.sqrt(0.5 / F)),
        ("{name: kaiming_normal}", math.sqrt(2 / F), math.sqrt(2 / F)),
    ],
)
def test_first_weights_are_spread_as_those_of_torch(convert, initializer, torso, head):
    text = replaced(
        ("units: [32, 16]", f"units: [{F}, {F}]"),
        ("initializer:\n            name: default", f"initializer: {initializer}"),
    )
    config = configs.resolve(convert(text).config)
    spec = Spec(1, jax.ShapeDtypeStruct((F,), jnp.float32), Box((A,)), 1)
    params = jax.tree.leaves(actor_critic.make(config.network, spec).init(jax.random.key(0)))
    kernels = np.concatenate([x for x in params if x.shape == (F, F)])
    (policy,) = [x for x in params if x.shape == (F, A)]
    np.testing.assert_allclose(np.std(kernels), torso, rtol=0.03)
    np.testing.assert_allclose(np.std(policy), head, rtol=0.08)


def test_a_mean_that_begins_small_begins_small(convert):
    text = replaced(("mu_init:\n              name: default", "mu_init: {name: glorot_normal_initializer, gain: 0.1}"))
    conversion = convert(text)
    assert conversion.config["network"]["policy_gain"] == 0.1
    assert any(line.startswith("network.space.continuous.mu_init: network.policy_gain") for line in conversion.lost)


DISCRETE = """
    params:
      algo: {name: a2c_discrete}
      model: {name: discrete_a2c}
      network:
        name: resnet_actor_critic
        require_rewards: True
        require_last_actions: True
        separate: False
        space:
          discrete:
        cnn:
          conv_depths: [8, 16]
          activation: relu
          initializer: {name: default}
        mlp: {units: [64], activation: relu, initializer: {name: default}}
        rnn: {name: lstm, units: 32, layers: 1, before_mlp: True}
      config:
        env_name: envpool
        normalize_input: False
        normalize_advantage: True
        reward_shaper: {min_val: -1, max_val: 1}
        gamma: 0.995
        tau: 0.95
        learning_rate: 1e-4
        lr_schedule: adaptive
        kl_threshold: 0.01
        grad_norm: 1.0
        entropy_coef: 0
        truncate_grads: True
        e_clip: 0.2
        clip_value: False
        num_actors: 8
        horizon_length: 64
        minibatch_size: 128
        mini_epochs: 4
        critic_coef: 1
        bounds_loss_coef: 0.5
        seq_length: 16
        max_epochs: 10
        env_config: {env_name: Breakout-v5, episodic_life: True, has_lives: True, use_dict_obs_space: True}
"""


def test_a_recurrent_agent_of_images(convert):
    conversion = convert(DISCRETE)
    assert conversion.config["env"] == {
        "suite": "envpool",
        "name": "Breakout-v5",
        "last_action": True,
        "last_reward": True,
        "options": ("episodic_life=True",),
    }
    assert conversion.config["network"] == {
        "activation": "relu",
        "core": "lstm",
        "core_before_torso": True,
        "core_size": 32,
        "encoder": "impala",
        "hidden_sizes": (64,),
        "impala_filters": (8, 16),
        "policy_gain": 1.0,
        "shared": True,
    }
    ppo = conversion.config["ppo"]
    assert ppo["segment_length"] == 16 and ppo["minibatch_size"] == 128
    assert ppo["adapt_interval"] == "pass"  # discrete agents decide after a pass, whatever schedule_type says
    assert "bound_cost" not in ppo  # they have no means
    assert "obs_clip" not in ppo and not ppo["normalize_obs"]


def test_layers_of_a_cnn(convert):
    convs = (
        "[{filters: 16, kernel_size: 8, strides: 4, padding: 0}, {filters: 32, kernel_size: 4, strides: 2, padding: 0}]"
    )
    text = DISCRETE.replace("resnet_actor_critic", "actor_critic").replace(
        "conv_depths: [8, 16]", f"type: conv2d\n          permute_input: False\n          convs: {convs}"
    )
    network = convert(text).config["network"]
    assert (network["cnn_filters"], network["cnn_kernels"], network["cnn_strides"]) == ((16, 32), (8, 4), (4, 2))
    assert not {"encoder", "cnn_padding", "cnn_activation"} & network.keys()  # as the defaults are


def test_layers_of_a_cnn_over_time_with_zeros_around(convert):
    convs = (
        "[{filters: 16, kernel_size: 3, strides: 1, padding: 1}, {filters: 32, kernel_size: 5, strides: 1, padding: 2}]"
    )
    text = DISCRETE.replace("resnet_actor_critic", "actor_critic").replace(
        "conv_depths: [8, 16]\n          activation: relu",
        f"type: conv1d\n          activation: tanh\n          convs: {convs}",
    )
    conversion = convert(text)
    network = conversion.config["network"]
    assert (network["encoder"], network["cnn_padding"], network["cnn_activation"]) == ("cnn1d", "same", "tanh")
    assert not any(line.startswith("network.cnn") for line in conversion.lost)


CRITIC = """clip_value: True
        central_value_config:
          minibatch_size: 32
          mini_epochs: 3
          learning_rate: 1e-3
          clip_value: True
          kl_threshold: 0.016
          network:
            name: actor_critic
            central_value: True
            mlp: {units: [64, 32], activation: relu, initializer: {name: default}}
"""


def test_a_central_value_is_a_critic_that_learns_by_itself(convert):
    conversion = convert(replaced(("clip_value: True\n", CRITIC)))
    assert "shared" not in conversion.config["network"]
    assert conversion.config["network"]["value_hidden_sizes"] == (64, 32)
    ppo = conversion.config["ppo"]
    assert (ppo["critic_epochs"], ppo["critic_learning_rate"]) == (3, 1e-3)
    assert ppo["value_cost"] == 2.0  # (R - v)² without its ½, which is in ours
    assert (
        "central_value_config, minibatch_size=32, network.mlp.activation=relu: policy and critic have one here, "
        "the policy's"
    ) in conversion.lost
    assert any(line.startswith("central_value_config.kl_threshold=0.016") for line in conversion.dead)


@pytest.mark.parametrize(
    ("changes", "kind", "line"),
    [
        ([("gamma: 0.98", "gama: 0.98")], "unknown", "gama=0.98: did you mean gamma?"),
        ([("seed: 7", "seed: -1")], "lost", "params.seed=-1: no seed is drawn"),
        (
            [("clip_value: True\n", CRITIC.replace("central_value: True", ""))],
            "lost",
            "central_value_config.network: c",
        ),
        (
            [("lr_schedule: adaptive", "lr_schedule: linear"), ("max_epochs: 100", "")],
            "lost",
            "lr_schedule=linear: with",
        ),
        ([("minibatch_size: 64", "minibatch_size: 48")], "lost", "minibatch_size=48 does not divide the 128 steps"),
        (
            [("minibatch_size: 64", "minibatch_size: 64\n        minibatch_size_per_env: 8")],
            "lost",
            "minibatch_size=64: minibatch_size_per_env is read where this is missing",
        ),
        ([("max_epochs: 100", "")], "lost", "max_epochs and max_frames are missing"),
        ([("max_epochs: 100", "weight_decay: 0.01")], "lost", "weight_decay=0.01: there is no weight decay"),
        ([("max_epochs: 100", "value_bootstrap: False")], "lost", "value_bootstrap=False"),
        ([("max_epochs: 100", "ppo: False")], "lost", "ppo=False: the loss is PPO's"),
        ([("max_epochs: 100", "schedule_type: standard_epoch")], "lost", "schedule_type=standard_epoch: not impl"),
        ([("scale_value: 0.1", "log_val: True")], "lost", "reward_shaper.log_val=True: a logarithm"),
        (
            [("lr_schedule: adaptive", "lr_schedule: polynom_decay")],
            "lost",
            "lr_schedule=polynom_decay: rl_games knows",
        ),
        ([("activation: elu", "activation: mish")], "lost", "network.mlp.activation=mish: there is no such"),
        ([("mu_activation: None", "mu_activation: tanh")], "lost", "network.space.continuous.mu_activation=tanh"),
        ([("separate: False", "normalization: batch_norm")], "lost", "network.normalization=batch_norm: jaxrl has"),
        (
            [("separate: False", "normalization: layer_norm")],
            "lost",
            "network.normalization=layer_norm: rl_games 1.6.5",
        ),
        ([("name: actor_critic", "name: my_network")], "lost", "network.name=my_network: a class of yours"),
        ([("max_epochs: 100", "seq_len: 8")], "dead", "seq_len=8: seq_length is the one that is read"),
        ([("max_epochs: 100", "max_steps: 8")], "dead", "max_steps=8: it makes rl_games fail"),
        ([("max_epochs: 100", "torch_compile: True")], "elsewhere", "torch_compile=True: all of an epoch is compiled"),
        ([("max_epochs: 100", "player: {games_num: 3}")], "elsewhere", "player: eval.* plays while training"),
    ],
)
def test_what_has_no_place_is_named_with_what_to_do(convert, changes, kind, line):
    lines = getattr(convert(replaced(*changes)), kind)
    assert [text for text in lines if text.startswith(line)], lines


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("name: a2c_continuous", "name: sac")], "params.algo.name='sac' is not PPO"),
        ([("name: a2c_continuous", "name: dqn")], "params.algo.name='dqn' is no algorithm of rl_games"),
        ([("continuous_a2c_logstd", "continuous_a2c_lstm_logstd")], "is no model of rl_games 1.6.5"),
        ([("env_name: inverted_pendulum", "env_name: ur5e")], "'ur5e' is not in Brax any more"),
        ([("max_epochs: 100", "self_play_config: {update_score: 1}")], "an opponent .self-play., which jaxrl cannot"),
        ([("gamma: 0.98", "gamma: high")], "gamma='high' is no number; correct it in pendulum.yaml"),
        ([("gamma: 0.98", "gamma: 1.5")], "config.ppo.gamma=1.5 is out of range"),
        ([("horizon_length: 8", "horizon_length: 0")], "config.ppo.unroll_length=0 is out of range"),
        ([("mini_epochs: 5", "mini_epochs: 2.5")], "mini_epochs=2.5 is no whole number"),
        ([("truncate_grads: True", "truncate_grads: perhaps")], "truncate_grads='perhaps' is neither true nor false"),
        ([("units: [32, 16]", "units: 32")], "network.mlp.units=32 is no list of whole numbers"),
    ],
)
def test_what_cannot_be_is_one_line(convert, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        convert(replaced(*changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "is no YAML"),
        ("just a text", "holds 'just a text', no keys"),
        ("", "holds None, no keys"),
        ("env: sc2\nseed: 3", "has no params.algo.name"),
        ("params: !!python/object/apply:os.system ['true']", "is no YAML"),
        ("defaults: [pendulum]", "names itself in its defaults"),
        ("defaults: [nonesuch]", "nonesuch.yaml cannot be read"),
        (
            "a: &a {x: 1}\n"
            + "".join(
                f"a{i}: &b{i} {{p: *{'a' if not i else f'b{i - 1}'}, q: *{'a' if not i else f'b{i - 1}'}}}\n"
                for i in range(20)
            ),
            "more than 10000 keys",
        ),
        ("params: &a\n  algo: *a", "has no params.algo.name"),
    ],
)
def test_what_is_no_training_config_is_one_line(convert, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        convert(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "config"),
    [
        ("CartPole-v1", "", {"suite": "gymnasium", "name": "CartPole-v1"}),
        ("LunarLander-v2", "", {"suite": "gymnasium", "name": "LunarLander-v3"}),
        (
            "openai_gym",
            "{name: Walker2d-v4, frames: 2}",
            {"suite": "gymnasium", "name": "Walker2d-v4", "frame_stack": 2},
        ),
        ("CartPoleMaskedVelocity-v1", "", {"suite": "gymnasium", "name": "CartPole-v1", "masked": (1, 3)}),
        (
            "atari_gym",
            "{name: MsPacmanNoFrameskip-v4, skip: 3, episode_life: False}",
            {"suite": "envpool", "name": "MsPacman-v5", "options": ("frame_skip=3", "episodic_life=False")},
        ),
        (
            "envpool",
            "{env_name: CheetahRun-v1, flatten_obs: True}",
            {"suite": "envpool", "name": "CheetahRun-v1", "flatten": True},
        ),
        ("smac", "{name: 3m}", {"suite": "torch_bridge", "name": "your_module.make"}),
        ("maniskill", "{env_name: PickCube-v1}", {"suite": "torch_bridge", "name": "your_module.make"}),
    ],
)
def test_environments_are_found_by_their_names_there(convert, old, new, config):
    text = replaced(("env_name: brax", f"env_name: {old}")).partition("        env_config:")[0]
    conversion = convert(text + (f"        env_config: {new}\n" if new else ""))
    assert conversion.config["env"] == config
    assert conversion.lost[0]  # what is to be installed or written


def test_names_for_the_reference_are_those_of_the_rules():
    names = rl_games.names()
    assert names["ppo.lambda_"] == "tau"
    assert names["network.shared"] == "network.separate (the opposite)"
    assert names["ppo.learning_rate_bounds"] == "min_lr, max_lr"
