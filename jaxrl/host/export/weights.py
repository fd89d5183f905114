"""The policy's numbers as torch has them: names and layouts of torch.nn, for files of safetensors.

Dense layers become Linear (`weight` [out, in], `bias`), convolutions Conv1d and Conv2d (`weight` [out, in, h, w]),
layer norms LayerNorm, recurrent layers LSTMCell and GRUCell (`weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`; gates in
torch's order, which is also ours). The normaliser is `normalizer.NAME.mean` and `.std`, of obs → (obs - mean) / std.
"""

import numpy as np

from jaxrl.functional import normalize
from jaxrl.host.export import observations
from jaxrl.host.export import step as steps
from jaxrl.host.export.step import Step

EPSILON = normalize.normalize.__kwdefaults__["epsilon"]  # added to the variance
PARAMS = "params."


def as_torch(step: Step) -> dict[str, np.ndarray]:
    """All numbers of the agent that its actions depend on, by torch's names."""
    tensors = {}
    parameters = steps.parameters(step)
    for path, value in parameters.items():
        if path.startswith("obs_moments.") and path.endswith(".0"):
            continue  # below, in a form that is ready for use
        is_recurrent = f"{path.rpartition('.input.')[0]}.state_kernel" in parameters
        name, value = _torch(path.removeprefix(PARAMS), value, is_recurrent)
        tensors[name] = np.ascontiguousarray(value)
    return tensors | _normalizer(step)


def _torch(name: str, value: np.ndarray, is_recurrent: bool) -> tuple[str, np.ndarray]:
    *path, last = name.split(".")
    if is_recurrent:  # what the input says to a recurrent layer's gates
        path, last = path[:-1], f"input_{last}"
    renamed = NAMES.get(last, last)
    if last.endswith("kernel") and value.ndim > 1:  # [..., in, out] -> [out, in, ...]
        value = value.transpose(value.ndim - 1, value.ndim - 2, *range(value.ndim - 2))
    return ".".join([*path, renamed]), value


def _normalizer(step: Step) -> dict[str, np.ndarray]:
    if not any(path.startswith("obs_moments.") for path in steps.parameters(step)):
        return {}
    moments = step.policy.agent.obs_moments
    tensors = {
        f"normalizer.{name}.mean": mean for name, mean in observations.observed_pairs(moments.mean, step).items()
    }
    for name, variance in observations.observed_pairs(moments.variance, step).items():
        tensors[f"normalizer.{name}.std"] = np.sqrt(variance + np.float32(EPSILON))
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "input_kernel": "weight_ih",
    "input_bias": "bias_ih",
    "state_kernel": "weight_hh",
    "state_bias": "bias_hh",
}
