"""Writes docs/reference.md, a row for every key of the config, from the defaults themselves.

    python docs/make_reference.py

Name, default, range and meaning come from the modules that read the keys; the names that TorchRL has
for them stand below, those of rl_games in jaxrl/host/rl_games.
"""

from pathlib import Path

from jaxrl import find
from jaxrl.host import keys, rl_games

PAGE = Path(__file__).with_name("reference.md")

RL_GAMES = rl_games.names()  # from the rules by which jaxrl.convert reads a yaml

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
