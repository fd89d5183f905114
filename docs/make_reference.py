"""Writes docs/reference.md, a row for every key of the config, from the defaults themselves.

    python docs/make_reference.py

Name, default, range and meaning come from the modules that read the keys; the names that rl_games and TorchRL have for
them stand below.
"""

from pathlib import Path

from jaxrl import find
from jaxrl.host import keys

PAGE = Path(__file__).with_name("reference.md")

# Under params.config of rl_games' yaml where nothing else is said; 1.6.5.
RL_GAMES = {
    "algorithm": "params.algo.name",
    "seed": "params.seed",
    "total_env_steps": "max_frames",
    "env.name": "env_name",
    "env.last_action": "network.require_last_actions",
    "env.last_reward": "network.require_rewards",
    "env.frame_stack": "env_config.frames",
    "network.hidden_sizes": "network.mlp.units",
    "network.shared": "network.separate (the opposite)",
    "network.value_hidden_sizes": "central_value_config.network.mlp.units",
    "network.activation": "network.mlp.activation",
    "network.layer_norm": "network.normalization: layer_norm",
    "network.d2rl": "network.mlp.d2rl",
    "network.initializer": "network.mlp.initializer.name",
    "network.initializer_gain": "network.mlp.initializer.gain",
    "network.encoder": "network.cnn.type, network.name: resnet_actor_critic",
    "network.cnn_filters": "network.cnn.convs[].filters",
    "network.cnn_kernels": "network.cnn.convs[].kernel_size",
    "network.cnn_strides": "network.cnn.convs[].strides",
    "network.cnn_padding": "network.cnn.convs[].padding",
    "network.cnn_activation": "network.cnn.activation",
    "network.impala_filters": "network.cnn.conv_depths",
    "network.core": "network.rnn.name",
    "network.core_size": "network.rnn.units",
    "network.core_layers": "network.rnn.layers",
    "network.core_before_torso": "network.rnn.before_mlp",
    "network.core_concat_input": "network.rnn.concat_input",
    "network.core_concat_output": "network.rnn.concat_output",
    "network.core_layer_norm": "network.rnn.layer_norm",
    "network.core_keeps_carry": "zero_rnn_on_done (the opposite)",
    "network.policy_gain": "network.space.continuous.mu_init",
    "network.distribution": "params.model.name: continuous_a2c_logstd, continuous_a2c_tanh",
    "network.log_std": "network.space.continuous.fixed_sigma",
    "network.initial_std": "network.space.continuous.sigma_init (its logarithm)",
    "network.std_parametrization": "network.space.continuous.sigma_parametrization",
    "network.min_std": "network.space.continuous.min_sigma",
    "network.log_std_bounds": "network.space.continuous.logstd_bounds",
    "network.module": "network.name, registered by import_modules",
    "network.dtype": "mixed_precision",
    "ppo.num_envs": "num_actors",
    "ppo.unroll_length": "horizon_length",
    "ppo.minibatch_size": "minibatch_size",
    "ppo.update_epochs": "mini_epochs",
    "ppo.segment_length": "seq_length",
    "ppo.learning_rate": "learning_rate",
    "ppo.learning_rate_schedule": "lr_schedule",
    "ppo.learning_rate_bounds": "min_lr, max_lr",
    "ppo.target_kl": "kl_threshold",
    "ppo.adapt_interval": "schedule_type: per_minibatch, standard",
    "ppo.critic_epochs": "central_value_config.mini_epochs",
    "ppo.critic_learning_rate": "central_value_config.learning_rate",
    "ppo.gamma": "gamma",
    "ppo.lambda_": "tau",
    "ppo.clip": "e_clip",
    "ppo.surrogate": "use_smooth_clamp",
    "ppo.value_clip": "clip_value (by e_clip)",
    "ppo.value_cost": "critic_coef",
    "ppo.entropy_cost": "entropy_coef",
    "ppo.entropy_schedule": "schedule_entropy",
    "ppo.bound_cost": "bounds_loss_coef",
    "ppo.bound_loss": "bound_loss_type",
    "ppo.bootstrap": "value_bootstrap (that of last_obs)",
    "ppo.max_gradient_norm": "grad_norm, with truncate_grads",
    "ppo.normalize_obs": "normalize_input",
    "ppo.normalize_value": "normalize_value",
    "ppo.normalize_advantage": "normalize_advantage, normalize_rms_advantage",
    "ppo.reward_scale": "reward_shaper.scale_value",
    "ppo.reward_shift": "reward_shaper.shift_value",
    "ppo.reward_bounds": "reward_shaper.min_val, max_val",
    "ppo.reward_log": "reward_shaper.log_val",
    "checkpoint.interval": "save_frequency",
    "stop.target_return": "score_to_win",
}

# torchrl 0.13: classes of torchrl.objectives, torchrl.envs.transforms, torchrl.modules, torchrl.collectors.
TORCHRL = {
    "env.frame_stack": "CatFrames(N)",
    "env.show_time": "StepCounter",
    "seed": "env.set_seed",
    "total_env_steps": "Collector(total_frames)",
    "env.name": "GymEnv(env_name)",
    "env.episode_length": "StepCounter(max_steps)",
    "env.action_repeat": "FrameSkipTransform(frame_skip)",
    "network.hidden_sizes": "MLP(num_cells)",
    "network.activation": "MLP(activation_class)",
    "network.encoder": "ConvNet",
    "network.cnn_filters": "ConvNet(num_cells)",
    "network.cnn_kernels": "ConvNet(kernel_sizes)",
    "network.cnn_strides": "ConvNet(strides)",
    "network.core": "LSTMModule, GRUModule",
    "network.core_size": "LSTMModule(hidden_size)",
    "network.core_layers": "LSTMModule(num_layers)",
    "network.distribution": "TanhNormal, NormalParamExtractor",
    "network.std_parametrization": "NormalParamExtractor(scale_mapping)",
    "network.min_std": "NormalParamExtractor(scale_lb)",
    "ppo.num_envs": "ParallelEnv(num_workers)",
    "ppo.unroll_length": "Collector(frames_per_batch) / workers",
    "ppo.minibatch_size": "ReplayBuffer(batch_size)",
    "ppo.gamma": "GAE(gamma)",
    "ppo.lambda_": "GAE(lmbda)",
    "ppo.recompute_advantage": "GAE in the loop over passes",
    "ppo.clip": "ClipPPOLoss(clip_epsilon)",
    "ppo.value_clip": "ClipPPOLoss(clip_value)",
    "ppo.value_cost": "ClipPPOLoss(critic_coeff)",
    "ppo.value_loss": "ClipPPOLoss(loss_critic_type)",
    "ppo.entropy_cost": "ClipPPOLoss(entropy_coeff)",
    "ppo.kl_cost": "KLPENPPOLoss(beta)",
    "ppo.target_kl": "KLPENPPOLoss(dtarg)",
    "ppo.normalize_advantage": "ClipPPOLoss(normalize_advantage), GAE(average_gae)",
    "ppo.normalize_obs": "ObservationNorm, VecNorm",
    "ppo.reward_scale": "RewardScaling(scale)",
    "ppo.reward_shift": "RewardScaling(loc)",
    "ppo.reward_bounds": "RewardClipping(clamp_min, clamp_max)",
    "eval.deterministic": "set_exploration_type(DETERMINISTIC)",
}

HEAD = """\
# Every key of a config

Made by `python docs/make_reference.py` from the defaults that the code reads; do not edit. Set a key in an experiment
file (`config.ppo.gamma = 0.995`) or on the command line (`--config.ppo.gamma=0.995`). The names that rl_games 1.6.5
(under `params.config` where nothing else is said) and TorchRL have for a key are those of what comes nearest; what
differs in meaning is in [rl_games.md](rl_games.md).
"""


def page() -> str:
    """The whole page."""
    suites = [name for name in find.names("envs") if hasattr(find.find("envs", name), "default_config")]
    tables = {suite: keys.table("ppo", suite) for suite in suites}
    shared, *_ = tables.values()
    groups: dict[str, list[str]] = {}
    for name in shared:
        group = name.rpartition(".")[0]
        if group != "env":
            groups.setdefault(group, []).append(name)
    text = HEAD
    for group, names in sorted(groups.items()):
        text += f"\n## `{group}`\n\n" if group else "\n## Top level\n\n"
        text += _table(shared, names)
    for suite, table in tables.items():
        text += f"\n## `env`, with `env.suite={suite}`\n\n"
        text += _table(table, [name for name in table if name.startswith("env.")])
    return text


def _table(table, names):
    rows = ["| key | default | range or choices | what it does | rl_games | TorchRL |", "|---|---|---|---|---|---|"]
    for name in names:
        key = table[name]
        limits = keys.interval(key.limits) if key.limits and key.limits != (None, None) else ""
        allowed = ", ".join(map(str, key.choices)) if key.choices else limits
        cells = (f"`{name}`", f"`{key.default!r}`", allowed, key.comment, RL_GAMES.get(name, ""), TORCHRL.get(name, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
