"""The rules from rl_games' keys to ours: one line each, for the learner; those of the network stand in `network.py`.

Its keys are those under params.config, unless they begin with params., network. or model. The same rules say in
docs/reference.md what our keys are called there.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl.algorithms.ppo.config import nearest_divisor
from jaxrl.host.rl_games.source import Source

HIDDEN = None  # as a remark: the name is not the usual one, and stays out of the reference
USUAL_NUM_ENVS = 4096  # of Isaac Gym and Isaac Lab, whose number stands in the task's file
USUAL_EPOCHS = 1000  # of rl_games' files for Brax; its own default is to go on for ever
LARGEST = 1e30  # of a bound of rewards


class Rule(NamedTuple):
    """Their key, ours, and its value there as a value here."""

    theirs: str
    ours: str
    value: Callable[[Source, str], Any]  # (all keys, theirs) -> ours; None leaves it at its default
    remark: str | None = ""  # stands behind their name in the reference


def number(source: Source, key: str) -> float | None:
    return source.number(key)


def whole(source: Source, key: str) -> int | None:
    return source.whole(key)


def flag(source: Source, key: str) -> bool:
    return source.flag(key)


def only_a_name(source: Source, key: str) -> None:
    """The rule serves the reference: what follows from the key is decided elsewhere."""


def one_of(choices: dict, default: Any) -> Callable:
    """The rule that reads a name."""
    return lambda source, key: choices.get(str(source.get(key)), default)


def is_discrete(source: Source) -> bool:
    return source.get("params.algo.name") == "a2c_discrete"


def is_adaptive(source: Source) -> bool:
    return source.get("lr_schedule") == "adaptive"


def has_critic(source: Source) -> bool:
    return source.has("central_value_config")


def num_envs(source: Source, _: str = "") -> int:
    """num_actors; where the task has it (-1, or ${....task.env.numEnvs}), the usual number that the minibatches fit."""
    given = source.whole("num_actors", -1)
    if given > 0:
        return given
    minibatch = max(source.whole("minibatch_size", 1), 1)
    step = minibatch // math.gcd(minibatch, horizon(source))
    return max(round(USUAL_NUM_ENVS / step), 1) * step


def epoch_steps(source: Source) -> int:
    """Env steps of one of its epochs."""
    return num_envs(source) * horizon(source)


def horizon(source: Source) -> int:
    return max(source.whole("horizon_length", 16), 1)


def ends(source: Source) -> list[int]:
    """Env steps at which max_epochs and max_frames end the run; none where neither does."""
    epochs, frames = source.whole("max_epochs", -1), source.whole("max_frames", -1)
    return [epochs * epoch_steps(source)] * (epochs > 0) + [frames] * (frames > 0)


def total_env_steps(source: Source, _: str = "") -> int:
    """Where max_epochs or max_frames end the run, whichever is first."""
    return min(ends(source) or [USUAL_EPOCHS * epoch_steps(source)])


def segment(source: Source) -> int:
    """Steps that stay together: seq_length of a memory; else all that minibatches of that size can hold."""
    has_memory = source.get("network.rnn.name") in ("lstm", "gru")
    return math.gcd(source.whole("seq_length", 4) if has_memory else asked_minibatch(source), horizon(source))


def asked_minibatch(source: Source) -> int:
    """minibatch_size, or what minibatch_size_per_env makes of it; the whole rollout where neither is there."""
    per_env = source.whole("minibatch_size_per_env", 0)
    return max(source.whole("minibatch_size", 0) or per_env * num_envs(source) or epoch_steps(source), 1)


def minibatch_size(source: Source, _: str = "") -> int:
    """The nearest to what is asked for that divides the rollout of these environments."""
    asked, steps, length = asked_minibatch(source), epoch_steps(source), segment(source)
    fits = not (steps % asked or asked % length)
    return asked if fits else length * nearest_divisor(steps // length, asked / length)


def segment_length(source: Source, _: str = "") -> int:
    length = segment(source)
    return 0 if length == horizon(source) else length


def learning_rate_schedule(source: Source, key: str) -> str:
    if source.get(key) == "linear" and ends(source):  # without an end, rl_games leaves the rate as it is
        return "linear"
    return "adaptive_kl" if is_adaptive(source) else "constant"


def entropy_schedule(source: Source, key: str) -> str:
    follows = source.flag(key) and learning_rate_schedule(source, "lr_schedule") == "linear"
    return "linear" if follows else "constant"


def adapt_interval(source: Source, key: str) -> str | None:
    if not is_adaptive(source):
        return None
    by_pass = is_discrete(source) or source.get(key) in ("standard", "standard_epoch")
    return "pass" if by_pass else "minibatch"


def max_gradient_norm(source: Source, _: str) -> float:
    return source.number("grad_norm", 1.0) if source.flag("truncate_grads") else 0.0


def value_cost(source: Source, key: str) -> float | None:
    # A central value learns by the squared error, without a half or a coefficient, and by itself.
    return 2.0 if has_critic(source) else source.number(key)


def bound_cost(source: Source, key: str) -> float:
    known = source.get("bound_loss_type", "bound") in ("bound", "regularisation")
    return 0.0 if is_discrete(source) or not known else source.number(key, 0.0)


def normalize_advantage(source: Source, _: str) -> str:
    if not source.flag("normalize_advantage", True):
        return "no"
    return "running" if source.flag("normalize_rms_advantage") else "batch"


def reward_bounds(source: Source, _: str) -> tuple:
    """() where nothing is clipped; above 0 where the logarithm follows."""
    low, high = source.number("reward_shaper.min_val", -math.inf), source.number("reward_shaper.max_val", math.inf)
    if source.flag("reward_shaper.log_val"):
        low = max(low, 1e-6)
    return () if (low, high) == (-math.inf, math.inf) else (max(low, -LARGEST), min(high, LARGEST))


def learning_rate_bounds(source: Source, _: str) -> tuple | None:
    return (source.number("min_lr", 1e-6), source.number("max_lr", 1e-2)) if is_adaptive(source) else None


def save_interval(source: Source, key: str) -> int:
    return max(source.whole(key, 0), 0) * epoch_steps(source)


RULES = (
    Rule("params.algo.name", "algorithm", only_a_name),
    Rule("params.seed", "seed", lambda source, key: max(source.whole(key, 0), 0)),
    Rule("max_frames", "total_env_steps", total_env_steps),
    Rule("max_epochs", "total_env_steps", total_env_steps),
    Rule("num_actors", "ppo.num_envs", num_envs),
    Rule("horizon_length", "ppo.unroll_length", whole),
    Rule("minibatch_size", "ppo.minibatch_size", minibatch_size),
    Rule("minibatch_size_per_env", "ppo.minibatch_size", minibatch_size, HIDDEN),
    Rule("mini_epochs", "ppo.update_epochs", whole),
    Rule("seq_length", "ppo.segment_length", segment_length),
    Rule("learning_rate", "ppo.learning_rate", number),
    Rule("lr_schedule", "ppo.learning_rate_schedule", learning_rate_schedule),
    Rule("min_lr", "ppo.learning_rate_bounds", learning_rate_bounds),
    Rule("max_lr", "ppo.learning_rate_bounds", learning_rate_bounds),
    Rule("kl_threshold", "ppo.target_kl", lambda source, key: source.number(key) if is_adaptive(source) else None),
    # Its thresholds are meant for the KL from the last visit to a minibatch.
    Rule("lr_schedule", "ppo.kl_reference", lambda source, key: "previous" if is_adaptive(source) else None, HIDDEN),
    Rule("schedule_type", "ppo.adapt_interval", adapt_interval, ": per_minibatch, standard"),
    Rule("central_value_config.mini_epochs", "ppo.critic_epochs", whole),
    Rule("central_value_config.learning_rate", "ppo.critic_learning_rate", number),
    Rule("gamma", "ppo.gamma", number),
    Rule("tau", "ppo.lambda_", number),
    Rule("e_clip", "ppo.clip", number),
    Rule("use_smooth_clamp", "ppo.surrogate", lambda source, key: "smooth_clip" if source.flag(key) else "clip"),
    Rule(
        "clip_value",
        "ppo.value_clip",
        lambda source, key: source.number("e_clip", 0.2) if source.flag(key) else 0.0,
        " (by e_clip)",
    ),
    Rule("critic_coef", "ppo.value_cost", value_cost),
    Rule("entropy_coef", "ppo.entropy_cost", number),
    Rule("schedule_entropy", "ppo.entropy_schedule", entropy_schedule),
    Rule("bounds_loss_coef", "ppo.bound_cost", bound_cost),
    Rule(
        "bound_loss_type",
        "ppo.bound_loss",
        lambda source, key: "regularisation" if source.get(key) == "regularisation" else None,
    ),
    Rule("value_bootstrap", "ppo.bootstrap", only_a_name, " (that of last_obs)"),
    Rule("grad_norm", "ppo.max_gradient_norm", max_gradient_norm),
    Rule("truncate_grads", "ppo.max_gradient_norm", max_gradient_norm),
    Rule("normalize_input", "ppo.normalize_obs", flag),
    Rule("normalize_input", "ppo.obs_clip", lambda source, key: 5.0 if source.flag(key) else None, HIDDEN),
    Rule("normalize_value", "ppo.normalize_value", flag),
    Rule("normalize_advantage", "ppo.normalize_advantage", normalize_advantage),
    Rule("normalize_rms_advantage", "ppo.normalize_advantage", normalize_advantage),
    Rule("reward_shaper.scale_value", "ppo.reward_scale", number),
    Rule("reward_shaper.shift_value", "ppo.reward_shift", number),
    Rule("reward_shaper.min_val", "ppo.reward_bounds", reward_bounds),
    Rule("reward_shaper.max_val", "ppo.reward_bounds", reward_bounds),
    Rule("reward_shaper.log_val", "ppo.reward_log", flag),
    Rule("save_frequency", "checkpoint.interval", save_interval),
    Rule("score_to_win", "stop.target_return", number),
)
