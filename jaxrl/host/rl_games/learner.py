"""What stands beside the weights in a checkpoint of rl_games: normalisers, Adam's moments, the rate, the counters."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.functional import normalize, vectors
from jaxrl.host.keys import error
from jaxrl.host.rl_games import rules, weights
from jaxrl.host.rl_games.found import Checkpoint
from jaxrl.host.rl_games.source import Source
from jaxrl.host.rl_games.weights import CENTRAL
from jaxrl.types import PyTree, Spec


class Report(NamedTuple):
    """Lines that are told."""

    moved: list[str]
    left: list[str]


def moments(
    found: Checkpoint, source: Source, state: PyTree, spec: Spec, report: Report
) -> dict[str, normalize.Moments]:
    """The normalisers of observations and values, by their names in the state.

    Raises:
        ConfigError: the yaml has others than the checkpoint.
    """
    known = {}
    has_obs = "running_mean_std.running_mean" in found.tensors
    if has_obs != source.flag("normalize_input"):
        raise error(
            f"normalize_input={source.flag('normalize_input')} is not what {found.file} was trained with; "
            "give the yaml that the run began with"
        )
    if has_obs:
        prefixes = jax.tree.map(lambda x: "", spec.obs)
        if isinstance(prefixes, dict) and "critic" in prefixes:
            prefixes["critic"] = CENTRAL
        known["obs_moments"] = _fill(found.tensors, "running_mean_std", state.obs_moments, prefixes, "")
        report.moved.append(f"normaliser of observations, of {float(known['obs_moments'].count[0]):,.0f} samples")
    prefix = CENTRAL if rules.has_critic(source) else ""
    has_value = f"{prefix}value_mean_std.running_mean" in found.tensors
    if has_value != source.flag("normalize_value"):
        raise error(
            f"normalize_value={source.flag('normalize_value')} is not what {found.file} was trained with; "
            "give the yaml that the run began with"
        )
    if has_value:
        known["value_moments"] = _fill(found.tensors, "value_mean_std", state.value_moments, prefix, prefix)
        report.moved.append("normaliser of values")
    return known


def _fill(tensors, module, moments, prefixes, first) -> normalize.Moments:
    """Moments with the numbers of one module for each observation; a prefix for each, and that of the samples."""

    def number(name, shape):
        if name not in tensors or tensors[name].size != math.prod(shape):
            raise error(f"{name} is missing or not of {list(shape)} numbers; give the yaml that the run began with")
        return _split(tensors[name].reshape(shape))

    def fill(name):
        return lambda prefix, pair: number(f"{prefix}{module}.{name}", pair[0].shape) if pair else pair

    return normalize.Moments(
        number(f"{first}{module}.count", ()),
        jax.tree.map(fill("running_mean"), prefixes, moments.mean),
        jax.tree.map(fill("running_var"), prefixes, moments.variance),
    )


def _split(number: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """A float64 as the sum of two float32."""
    number = np.asarray(number, np.float64)
    high = number.astype(np.float32)
    return jnp.asarray(high), jnp.asarray((number - high).astype(np.float32))


def optimizers(
    found: Checkpoint, source: Source, state: PyTree, owns: Mapping[str, Callable], translate: Callable, report: Report
) -> PyTree:
    """The state with Adam's moments; they begin anew where the checkpoint has none, or passes are shared otherwise.

    Args:
        owns: for each phase, which branches of the parameters learn in it.
        translate: {their name: a number for each weight} -> the same in the tree of our parameters.
    """
    wanted = {"joint": ("",), "policy": ("",), "critic": (CENTRAL,)}
    is_split = rules.has_critic(source)
    phases = [name for name in state.optimizer if name in wanted]
    if is_split == ("joint" in phases) or any(prefix not in found.optimizers for n in phases for prefix in wanted[n]):
        report.left.append("Adam's moments: not in the checkpoint, or of other passes than here; they begin anew")
        return state
    adams = [_adam(found, prefix) for prefix in ("", *[CENTRAL] * is_split)]
    if None in adams:
        report.left.append("Adam's moments: not of the same steps for all weights; they begin anew")
        return state
    steps = [adam[0] for adam in adams]
    first, second = ({k: x for adam in adams for k, x in adam[part].items()} for part in (1, 2))
    mu, nu = (translate(part) for part in (first, second))
    optimizers = dict(state.optimizer)
    for name, count in zip(("policy", "critic") if is_split else ("joint",), steps, strict=True):
        moments = [vectors.join({branch: tree[branch] for branch in tree if owns[name](branch)}) for tree in (mu, nu)]
        optimizers[name] = state.optimizer[name]._replace(count=jnp.int32(count), mu=moments[0], nu=moments[1])
    report.moved.append(f"Adam's moments, after {' and '.join(f'{count:,}' for count in steps)} steps")
    return state._replace(optimizer=optimizers)


def _adam(found, prefix) -> tuple[int, dict, dict] | None:
    """(steps, first moments, second moments by the name of the weight); None if they are not of the same steps."""
    is_central = lambda name: name.startswith(CENTRAL)  # noqa: E731
    # An optimiser numbers the parameters as the state dict orders them.
    names = [n for n in found.tensors if is_central(n) == bool(prefix) and not weights.is_buffer(n)]
    entries = found.optimizers[prefix].get("state")
    if not isinstance(entries, dict) or not entries:
        return None
    first, second, counts = {}, {}, set()
    for number, name in enumerate(names):
        entry = entries.get(number)
        shape = found.tensors[name].shape
        if entry is None:  # a weight that never had a gradient
            first[name] = second[name] = np.zeros(shape, np.float32)
            continue
        moments = [entry.get("exp_avg"), entry.get("exp_avg_sq")] if isinstance(entry, dict) else [None]
        if any(not isinstance(x, np.ndarray) or x.shape != shape for x in moments):
            raise error(f"{found.file}: Adam's moments of {name} are not of its shape {list(shape)}; copy it again")
        first[name], second[name] = moments
        counts.add(int(np.asarray(entry.get("step", 0)).reshape(())))
    return (counts.pop(), first, second) if len(counts) == 1 else None


def rate(found: Checkpoint, state: PyTree, report: Report) -> PyTree:
    """The state with the learning rate that the adaptive schedule had come to."""
    known = _first_rate(found.optimizers.get("", {}))
    if known is None:
        return state
    report.moved.append(f"learning rate {known:g}, which the schedule had come to")
    return state._replace(hyper=state.hyper._replace(learning_rate=jnp.float32(known)))


def _first_rate(optimizer: Mapping[str, Any]) -> float | None:
    groups = optimizer.get("param_groups")
    group = groups[0] if isinstance(groups, list) and groups else None
    rate = group.get("lr") if isinstance(group, dict) else None
    is_number = isinstance(rate, float | int | np.floating | np.ndarray) and np.size(rate) == 1
    return float(np.asarray(rate).reshape(())) if is_number and np.isfinite(rate) else None


def count(found: Checkpoint, config: ConfigDict, report: Report) -> tuple[int, int]:
    """(iterations, env steps): the whole iterations nearest to theirs."""
    steps = config.ppo.num_envs * config.ppo.unroll_length
    iterations = round(found.frame / steps)
    if iterations >= 2**31:
        raise error(
            f"{found.file} is of {found.frame} env steps, more than {2**31} iterations of {steps}; correct num_actors"
        )
    report.moved.append(
        f"epoch {found.epoch:,} and frame {found.frame:,}: iteration {iterations:,}, {iterations * steps:,} env steps"
    )
    if iterations * steps != found.frame:
        report.left.append(
            f"frame {found.frame:,} is no whole number of iterations of {steps:,} env steps: num_actors may be others"
        )
    if iterations * steps >= config.total_env_steps:
        report.left.append(
            f"total_env_steps={config.total_env_steps:,} are reached: to go on, --config.total_env_steps="
            f"{2 * iterations * steps}"
        )
    return iterations, iterations * steps
