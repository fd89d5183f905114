"""What of a yaml has no rule: what is lost and what to do, what jaxrl has elsewhere, and what nothing reads."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from jaxrl.host.keys import clip
from jaxrl.host.rl_games import network, rules
from jaxrl.host.rl_games.rules import is_discrete
from jaxrl.host.rl_games.source import Source, named, path

# Read by nothing in rl_games 1.6.5, though its files and others' have them; a name stands for all below it.
DEAD = {
    "params.load_checkpoint": "use --checkpoint there; here the same --workdir goes on",
    "params.load_path": "use --checkpoint there; here the same --workdir goes on",
    "network.mlp.regularizer": "",
    "network.cnn.regularizer": "",
    "network.rnn.regularizer": "",
    "network.regularizer": "",
    "network.mlp.normalization": "network.normalization is the one that is read",
    "network.mlp.norm_only_first_layer": "",
    "network.mlp.initializer.scale": "",
    "network.cnn.initializer.scale": "",
    "network.value_shape": "the environment says how many values there are",
    "network.blocks": "",
    "network.joint_obs_actions": "",
    "network.lstm": "network.rnn is the one that is read",
    "network.rnn1": "network.rnn is the one that is read",
    "network.space.continuous.mu_init.scale": "",
    "network.space.continuous.mu_init.std": "",
    "network.space.continuous.scale": "",
    "central_value_config.kl_threshold": "a central value's rate is not adapted",
    "central_value_config.lr_schedule": "",
    "central_value_config1": "",
    "ignore_dead_batches": "",
    "seq_len": "seq_length is the one that is read",
    "bptt_length": "seq_length is the one that is read",
    "network_path": "",
    "log_path": "",
    "rnd_config": "its class is gone; here ppo.rnd_weight",
    "max_steps": "it makes rl_games fail; max_frames is the one",
    "params.experiment_config1": "",
}
# What is no part of training, or needs nothing said.
ELSEWHERE = {
    "name": "",
    "full_experiment_name": "the run folder is --workdir",
    "train_dir": "the run folder is --workdir",
    "env_name": "",
    "env_config": "",
    "vecenv_type": "",
    "algo_observer": "metrics of the environment are logged as rollout/...",
    "params.algo_observer": "metrics of the environment are logged as rollout/...",
    "device": "JAX_PLATFORMS chooses: cpu, cuda, tpu",
    "device_name": "JAX_PLATFORMS chooses: cpu, cuda, tpu",
    "multi_gpu": "all devices of this machine are used; JAX_PLATFORMS and CUDA_VISIBLE_DEVICES choose",
    "params.torch_threads": "",
    "torch_compile": "all of an epoch is compiled",
    "print_stats": "--config.writers leaves out console",
    "use_diagnostics": "update/explained_variance and update/clip_fraction are always written",
    "games_to_track": "returns are means over the episodes of an epoch",
    "save_best_after": "checkpoint.keep_best keeps the best by evaluation, from the first on",
    "use_action_masks": "the observations' action_mask is used where there is one",
    "player": "eval.* plays while training",
    "params.env": "clip in the function that makes your simulator",
    "is_train": "",
    "features": "",
    "import_modules": "dotted paths import what they name",
    "network.cnn.permute_input": "images are [H, W, C]",
    "network.encoding": "observations go into the MLP as they are",
    "network.network": "",
    "network.space.discrete": "",
    "network.space.multi_discrete": "",
    "central_value_config.network.name": "",
    "central_value_config.network.central_value": "",
    "central_value_config.model": "",
    "central_value_config.network.mlp.regularizer": "",
    "central_value_config.network.cnn.regularizer": "",
    "central_value_config.network.mlp.initializer.scale": "",
    "central_value_config.network.joint_obs_actions": "",
    "central_value_config.network.rnn1": "",
    "params.experiments": "",
    "params.start_exp": "",
    "params.start_sub_exp": "",
}


class Loss(NamedTuple):
    """What a key of theirs says that jaxrl does not do."""

    key: str
    when: Callable[[Source, str], bool]
    cure: str


def given(source: Source, key: str) -> bool:
    return bool(source.get(key))


def nonzero(source: Source, key: str) -> bool:
    return bool(source.number(key, 0.0))


def none_of(*names) -> Callable:
    return lambda source, key: source.get(key) is not None and source.get(key) not in names


def _moves_without_end(source: Source, key: str) -> bool:
    return source.get(key) == "linear" and rules.learning_rate_schedule(source, key) != "linear"


def _other_padding(source: Source, key: str) -> bool:
    """Whether a layer has zeros around its image, but not as many as leave it its size."""
    layers = [layer for layer in source.get(key) or [] if isinstance(layer, dict)]
    if not any(layer.get("padding") for layer in layers):
        return False
    return any(layer.get("padding") != (layer.get("kernel_size", 0) - 1) / 2 for layer in layers)


def _other_start(source: Source, key: str) -> bool:
    names = [source.get(f"{block}.name", "default") for block in (key, "network.mlp.initializer")]
    return names[0] in network.INITIALIZERS and names[0] not in ("default", names[1]) and not is_discrete(source)


LOSSES = (
    Loss("params.seed", lambda source, key: source.whole(key, 0) < 0, "no seed is drawn; set seed for another than 0"),
    Loss(
        "params.model.name",
        lambda source, key: source.get(key) == "continuous_a2c",
        "it fails in rl_games; this is continuous_a2c_logstd",
    ),
    Loss(
        "network.name",
        none_of("actor_critic", "resnet_actor_critic", "tcnnnet"),
        "a class of yours: write it in JAX and name it by network.module; until then it is jaxrl's own network",
    ),
    Loss("network.name", lambda source, key: source.get(key) == "tcnnnet", "not fused: a plain MLP of these sizes"),
    Loss("network.normalization", none_of("layer_norm"), "jaxrl has network.layer_norm alone"),
    Loss(
        "network.normalization",
        lambda source, key: source.get(key) == "layer_norm" and not source.flag("network.mlp.d2rl"),
        "rl_games 1.6.5 drops it before an MLP without d2rl; network.layer_norm=False is what ran there",
    ),
    Loss("network.mlp.activation", none_of(*network.ACTIVATIONS), "there is no such activation; elu stands for it"),
    Loss("network.mlp.initializer.name", none_of(*network.INITIALIZERS), "there is none such; `default` stands for it"),
    Loss(
        "network.cnn.initializer.name",
        lambda source, key: (
            network.initializer(source, "network.cnn.initializer")
            != network.initializer(source, "network.mlp.initializer")
        ),
        "convolutions begin as network.initializer says",
    ),
    Loss(
        "network.cnn.type",
        none_of("conv2d", "conv1d"),
        "plain convolutions stand for it; write your own by network.module",
    ),
    Loss("network.cnn.convs", _other_padding, "the zeros around the image are of size 'same' here"),
    Loss("network.rnn.name", none_of("lstm", "gru"), "no memory"),
    Loss("network.value_activation", given, "values have no activation"),
    Loss(
        f"{network.SPACE}.mu_activation",
        given,
        "means have no activation; network.distribution=tanh_normal squashes the actions",
    ),
    Loss(f"{network.SPACE}.sigma_activation", given, "see network.std_parametrization"),
    Loss(f"{network.SPACE}.mu_init", _other_start, "network.policy_gain scales network.initializer in its place"),
    Loss(f"{network.SPACE}.mu_init.name", none_of(*network.INITIALIZERS), "there is none such; the torso's stands"),
    Loss(
        "minibatch_size",
        lambda source, key: source.has(key) and source.has("minibatch_size_per_env"),
        "minibatch_size_per_env is read where this is missing, so it is ignored",
    ),
    Loss("lr_schedule", none_of("adaptive", "linear"), "rl_games knows no such schedule, the rate is constant"),
    Loss("lr_schedule", _moves_without_end, "without max_epochs or max_frames rl_games leaves the rate constant"),
    Loss(
        "schedule_type",
        lambda source, key: source.get(key) == "standard_epoch",
        "not implemented there, the rate never moves; it is ppo.adapt_interval='pass' here",
    ),
    Loss(
        "value_bootstrap",
        lambda source, key: source.has(key) and not source.flag(key),
        "the end of the clock is no end of the task here: V of the last observation is added all the same",
    ),
    Loss("bound_loss_type", none_of("bound", "regularisation"), "rl_games knows none such: no bound loss"),
    Loss("weight_decay", nonzero, "there is no weight decay"),
    Loss("ppo", lambda source, key: source.has(key) and not source.flag(key), "the loss is PPO's; there is no A2C"),
    Loss("clip_actions", lambda source, key: source.has(key) and not source.flag(key), "bounded actions are clipped"),
    Loss("epochs_between_resets", nonzero, "no need: restarts are fresh"),
    Loss("normalize_rms_advantage", rules.flag, "it fails in rl_games 1.6.5; the moments are of all advantages here"),
    Loss(
        "reward_shaper.log_val",
        lambda source, key: source.flag(key) and source.number("reward_shaper.min_val", -1.0) <= 0,
        "a logarithm needs what is above 0, so ppo.reward_bounds begin at 1e-6",
    ),
    Loss("use_experimental_cv", lambda source, key: source.has(key), "the policy has no value head of its own"),
    Loss("population_based_training", rules.flag, "one learner; start several"),
    Loss("phasic_policy_gradients", lambda source, key: source.has(key), "not here"),
    Loss(
        "central_value_config",
        lambda source, key: source.has(key),
        "let the environment show `critic` beside the rest, for the critic; else both read the same",
    ),
    Loss(
        "central_value_config.network",
        lambda source, key: source.has(key) and not source.flag(f"{key}.central_value"),
        "central_value: True is missing, so rl_games makes an actor of it; it is a critic here",
    ),
    Loss("central_value_config.freeze_critic", rules.flag, "the critic learns"),
    Loss("central_value_config.weight_decay", nonzero, "there is no weight decay"),
)
# Blocks that are read as a whole.
ALSO = ("network.mlp.initializer", "network.cnn.initializer", "central_value_config.network")
# Beside these keys of a central value stands one of the policy's, which is both's here.
BOTH = ("minibatch_size", "clip_value", "normalize_input", "truncate_grads", "grad_norm", "e_clip")


def lost(source: Source) -> list[str]:
    """A line for each thing that is not taken over, with what to do."""
    lines = [
        f"{loss.key}{_shown(source, loss.key)}: {loss.cure}"
        for loss in LOSSES
        if source.has(loss.key) and loss.when(source, loss.key)
    ]
    if source.whole("num_actors", -1) < 1:
        lines.append(f"num_actors is the task's affair: ppo.num_envs={rules.num_envs(source)} is a guess; set it")
    asked, found = rules.asked_minibatch(source), rules.minibatch_size(source)
    if asked != found:
        lines.append(
            f"minibatch_size={asked} does not divide the {rules.epoch_steps(source)} steps of num_actors x "
            f"horizon_length (it may those of all agents): ppo.minibatch_size={found} stands for it"
        )
    if not rules.ends(source):
        lines.append(
            f"max_epochs and max_frames are missing, so rl_games goes on for ever: total_env_steps is "
            f"{rules.USUAL_EPOCHS} epochs; set it"
        )
    return lines + _of_both(source)


def _of_both(source):
    """What a central value has otherwise than the policy, where jaxrl has one for both."""
    known = {rule.theirs for rule in (*rules.RULES, *network.RULES)} | ELSEWHERE.keys()
    differing = []
    for part in BOTH:
        key = f"central_value_config.{part}"
        if source.has(key) and (source.get(key) or None) != (source.get(part) or None):
            differing.append(f"{part}={source.get(key)}")
    for part, value in source.below("central_value_config.network").items():
        key = f"central_value_config.network.{part}"
        if not _stands_in(key, known) and (value or None) != source.get(f"network.{part}"):
            differing.append(f"network.{part}={clip(str(value))}")
    shown = ", ".join(differing)
    return [f"central_value_config, {shown}: policy and critic have one here, the policy's"] if differing else []


def elsewhere(source: Source) -> list[str]:
    """A line for each key that is not needed, and where jaxrl has the like."""
    return [f"{key}{_shown(source, key)}: {cure}" for key, cure in ELSEWHERE.items() if cure and source.has(key)]


def dead(source: Source) -> list[str]:
    """A line for each key that rl_games does not read either."""
    return [
        f"{key}{_shown(source, key)}{f': {why}' if why else ''}"
        for key, why in DEAD.items()
        if source.has(key) and not _is_scale(source, key)
    ]


def unknown(source: Source) -> list[str]:
    """A line for each key that rl_games has never heard of, and ignores."""
    names = {path(rule.theirs) for rule in (*rules.RULES, *network.RULES)} | {path(loss.key) for loss in LOSSES}
    names |= {path(key) for key in (*DEAD, *ELSEWHERE, *(f"central_value_config.{part}" for part in BOTH), *ALSO)}
    lines = []
    for leaf, value in source.leaves.items():
        is_empty_block = value is None and any(name.startswith(f"{leaf}.") for name in names)
        if not is_empty_block and not _stands_in(leaf, names):
            near = difflib.get_close_matches(leaf, names, n=1)
            cure = f"did you mean {named(near[0])}?" if near else "remove it"
            lines.append(f"{named(leaf)}={clip(str(value), 60)}: {cure}")
    return lines


def _is_scale(source, key):
    """Of the one initialiser that reads it."""
    name = f"{key.rpartition('.')[0]}.name"
    return key.endswith(".scale") and source.get(name) == "variance_scaling_initializer"


def _shown(source, key):
    """'=value', or nothing for a block."""
    value = source.get(key)
    return "" if value is None else f"={clip(str(value), 60)}"


def _stands_in(key, names):
    """Whether a key, or a block that it lies in, is among the names."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in names for length in range(len(parts), 0, -1))
