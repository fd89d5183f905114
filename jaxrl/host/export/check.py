"""Whether what is about to be written says the same as the policy in JAX, on the spot.

Letters in shapes: T steps, N episodes, M options.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxrl.functional.distributions import option_sizes
from jaxrl.host.export.observations import Inputs
from jaxrl.host.export.step import Step
from jaxrl.types import Box, ConfigError

TOLERANCE = 1e-5  # of |given - expected| / max(1, |expected|)
BATCHES = (1, 7)  # numbers of rows that are tried besides the whole


def compare(file: str, step: Step, call: Callable, checks: Sequence[Inputs]) -> dict[str, Any]:
    """Runs both over the same observations; a policy with memory keeps its own, from step to step.

    Args:
        file: that `call` stands for, as messages name it.
        step: whose function in JAX is what is expected.
        call: [inputs, [N, ...]] -> [outputs], of which only the first may be given.
        checks: the observations.

    Returns:
        What was found: the largest difference of each output, by kind of observation.

    Raises:
        ConfigError: a difference is larger than TOLERANCE.
    """
    reference = jax.jit(lambda *inputs: step.function(step.policy.agent, *inputs))
    found: dict[str, Any] = {}
    with jax.default_matmul_precision("highest"):
        for inputs in checks:
            expected = drive(step, reference, inputs)
            given = drive(step, call, inputs)
            differences = _differences(step, given, expected)
            for rows in BATCHES if not step.num_carry else ():
                few = call(*(_rows(x)[:rows] for x in inputs.obs))
                some = _differences(step, list(map(np.asarray, few)), [_rows(x)[:rows] for x in expected])
                differences = {name: max(value, some[name]) for name, value in differences.items()}
            _refuse(file, inputs, differences)
            found[inputs.kind] = {"inputs": inputs.count, "source": inputs.source, "max_error": differences}
    return found


def drive(step: Step, call: Callable, inputs: Inputs) -> list[np.ndarray]:
    """The outputs [T, N, ...] of a step over all observations."""
    steps, num = inputs.begins.shape
    if not step.num_carry:
        # In parts of one size, so that recorded and random ones are one program to compile.
        parts = [call(*(_rows(x)[start : start + steps] for x in inputs.obs)) for start in range(0, steps * num, steps)]
        whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return [x.reshape(steps, num, *x.shape[1:]) for x in whole]
    carry, made = [np.asarray(x) for x in step.carry(num)], []
    for time in range(steps):
        outputs = [np.asarray(x) for x in call(*(x[time] for x in inputs.obs), *carry, inputs.begins[time])]
        carry = outputs[len(outputs) - step.num_carry :]
        made.append(outputs)
    return [np.stack(column) for column in zip(*made, strict=True)]


def _rows(x: np.ndarray) -> np.ndarray:
    """[T, N, ...] → [T·N, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _differences(step: Step, given: list, expected: list) -> dict[str, float]:
    """The largest difference of each output that is given; infinite where one is not a number and the other is."""
    names = [port.name for port in step.outputs]
    if len(given) != len(expected):  # without the outputs that only ONNX has
        keep = [i for i, name in enumerate(names) if i < step.num_actions or name.startswith("next_carry.")]
        names = [names[i] for i in keep]
        pairs = zip(given, (expected[i] for i in keep), strict=True)
    else:
        pairs = zip(given, expected, strict=True)
    logits = dict(zip((port.name for port in step.outputs), expected, strict=True)).get("logits")
    regrets = iter(_columns(step.policy.spec.action))
    differences = {}
    for name, (mine, theirs) in zip(names, pairs, strict=True):
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            differences[name] = float("inf")
        elif name.startswith("action") and np.issubdtype(theirs.dtype, np.integer):
            differences[name] = _regret(mine, theirs, logits, next(regrets))
        else:
            differences[name] = _distance(mine, theirs)
    return differences


def _distance(mine: np.ndarray, theirs: np.ndarray) -> float:
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return 0.0 if np.array_equal(mine, theirs, equal_nan=True) else float("inf")
    return float(np.max(np.abs(mine - theirs) / np.maximum(1.0, np.abs(theirs)), initial=0.0))


def _columns(space) -> list[list[slice]]:
    """Of every discrete action, the places of its parts' options among all."""
    parts = space if isinstance(space, tuple) and not hasattr(space, "_fields") else (space,)
    columns, start = [], 0
    for part in parts:
        if isinstance(part, Box):
            continue
        slices = []
        for size in option_sizes(part):
            slices.append(slice(start, start + size))
            start += size
        columns.append(slices)
    return columns


def _regret(mine: np.ndarray, theirs: np.ndarray, logits: np.ndarray | None, parts: list[slice]) -> float:
    """How much less probable than the best the options are that differ, in nats: of two equals either may be taken."""
    if np.array_equal(mine, theirs):
        return 0.0
    if logits is None:
        return float("inf")
    mine, theirs = (x.reshape(-1, len(parts)) for x in (mine, theirs))
    worst = 0.0
    for k, part in enumerate(parts):
        options = logits[..., part].reshape(len(mine), -1)
        if mine[:, k].min() < 0 or mine[:, k].max() >= options.shape[1]:
            return float("inf")
        best, taken = (np.take_along_axis(options, x[:, k : k + 1].astype(int), 1) for x in (theirs, mine))
        worst = max(worst, float(np.max(best - taken)))
    return worst


def _refuse(file, inputs, differences):
    name = max(differences, key=differences.get)
    if not differences[name] <= TOLERANCE:
        raise ConfigError(
            f"{file} differs from the policy by {differences[name]:.3g} in {name!r} on {inputs.kind} observations, "
            f"more than {TOLERANCE:g}; nothing was written. Compute in float32 in the network, or report its config."
        )
