"""An exported policy, from its folder: called as one of a run is, without the suite, flax or onnx."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.host import policies, specs
from jaxrl.host.export import contract, optional, step
from jaxrl.types import Algorithm, Array, ConfigError, PyTree, Spec

FILE = "policy.stablehlo"


class Exported(policies.Policy):
    """The deterministic policy of an export; jaxrl.host.policies.Policy says how it is called.

    Its actions are what the environment gets: numbers are clipped to the bounds of their space.

    Attributes:
        contract: all that contract.json says.
    """

    contract: dict[str, Any]

    def __call__(self, obs: PyTree, *, deterministic: bool = True, key=None, begins=None) -> PyTree:
        """As Policy, but for deterministic=False, which an export has no part for."""
        _only_deterministic(deterministic)
        return super().__call__(obs, key=key, begins=begins)

    def step(self, obs: PyTree, carry: PyTree, begins: Array, *, deterministic: bool = True, key=None):
        """As Policy, but for deterministic=False, which an export has no part for."""
        _only_deterministic(deterministic)
        return super().step(obs, carry, begins, key=key)


def _only_deterministic(deterministic):
    if not deterministic:
        raise ConfigError(
            "deterministic=False cannot be: an export holds the policy's mode alone; use jaxrl.load_policy of the run."
        )


def load(folder: str | Path) -> Exported:
    """The policy in the folder that `python -m jaxrl.export` wrote; its checksum is looked at first.

    Raises:
        ConfigError: a file is missing, damaged, or of another version.
    """
    folder = Path(folder)
    told = contract.read(folder)
    content = contract.read_file(folder, FILE, told)
    try:
        program = optional.jax_export().deserialize(bytearray(content))
        policy = _policy(told, program)
    except ConfigError:
        raise
    except Exception as mistake:  # of a library that reads bytes, or of a contract that was changed by hand
        cause = " ".join(f"{type(mistake).__name__}: {mistake}".split())[:200]
        raise contract.damaged(folder, cause) from mistake
    policy.contract = told
    return policy


def _policy(told, program) -> Exported:
    obs, space = specs.decode_obs(told["observation"]), specs.decode_space(told["action"]["space"])
    carries = [port for port in told["inputs"] if port["name"].startswith("carry.")]
    num_actions = len(jax.tree.leaves(_form(space)))

    def carry(num: int) -> tuple:
        return tuple(jnp.zeros((num, *port["shape"][1:]), port["dtype"]) for port in carries)

    def act(agent, carry, obs, begins):
        del agent
        seen = step.observed(obs)
        inputs = [port for port in told["inputs"] if port["name"] in seen]
        given = [seen[port["name"]].astype(port["dtype"]) for port in inputs]
        outputs = program.call(*given, *carry, *([begins] if carries else []))
        return jax.tree.unflatten(jax.tree.structure(_form(space)), outputs[:num_actions]), tuple(outputs[num_actions:])

    none: Any = None
    algorithm = Algorithm(
        init=none, act=none, policy=act, update=none, carry=carry, hyper=(), unroll_length=1, segment_length=1
    )
    spec = Spec(1, obs, space, 1)
    config = ConfigDict({"env": told["env"]})
    return Exported(algorithm, (), spec, config, told["env_steps"])


def _form(space):
    """A leaf for every part of an action."""
    return tuple(map(_form, space)) if isinstance(space, tuple) and not hasattr(space, "_fields") else 0
