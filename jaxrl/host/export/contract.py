"""contract.json: what a program that deploys the policy must know, and what loads the export by."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.envs import Control
from jaxrl.host import keys, specs
from jaxrl.host.export.step import Port, Step
from jaxrl.types import Box, Space

FORMAT_VERSION = 1
NAME = "contract.json"


def describe(
    step: Step, control: Control, trained_dtype: str, versions: dict, checked: dict, why: str
) -> dict[str, Any]:
    """All of it but the files' checksums.

    Args:
        step: that is exported.
        control: time and limits of the environment's actions.
        trained_dtype: what the run's network computes in.
        versions: of packages, by name.
        checked: what `check.compare` found, by file.
        why: no observations were recorded; "" if they were.
    """
    policy, config = step.policy, step.policy.config
    return {
        "format_version": FORMAT_VERSION,
        "env": {"suite": config.env.suite, "name": config.env.name},
        "env_steps": policy.env_steps,
        "inputs": [_port(port) for port in step.inputs],
        "outputs": [_port(port) for port in step.outputs],
        "recurrent": step.num_carry > 0,
        "action": {
            "space": specs.encode_space(policy.spec.action),
            "deterministic": True,
            "outside_the_bounds": _outside(policy.spec.action, control),
            "limits": None
            if control.low is None
            else {"low": np.ravel(control.low).tolist(), "high": np.ravel(control.high).tolist()},
        },
        "control_period_s": control.seconds,
        "observation": specs.encode_obs(policy.spec.obs),
        "compute_dtype": "float32",
        "trained_dtype": trained_dtype,
        "versions": versions,
        "check": {
            "tolerance": "|given - expected| / max(1, |expected|) <= 1e-05; of options, nats below the best",
            "not_recorded": why or None,
            **checked,
        },
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": ["N", *port.shape], "meaning": port.meaning}


def _outside(space: Space, control: Control) -> str:
    """What becomes of numbers that lie outside of the bounds."""
    parts = space if isinstance(space, tuple) and not hasattr(space, "_fields") else (space,)
    if not any(isinstance(part, Box) for part in parts):
        return "options have no bounds; they are counted from 0"
    return (
        "clipped in the graph, as the environment does" if control.clips else "left as it is, as the environment does"
    )


def is_export(folder: str | Path) -> bool:
    """Whether a policy was exported to this folder."""
    return (Path(folder) / NAME).is_file()


def write(folder: Path, told: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes the files, and the contract with their checksums."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {name: {"bytes": len(content), "sha256": digest(content)} for name, content in files.items()}
    (folder / NAME).write_text(json.dumps({**told, "files": sums}, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The contract of an export.

    Raises:
        ConfigError: there is none, it cannot be read, or another version of jaxrl wrote it.
    """
    path = folder / NAME
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        version = told["format_version"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as mistake:
        raise damaged(path, repr(mistake)) from None
    if version != FORMAT_VERSION:
        raise keys.error(f"{path} has format_version={version!r}, not {FORMAT_VERSION}; export it with this jaxrl")
    return told


def read_file(folder: Path, name: str, told: Mapping) -> bytes:
    """One of the files, verified.

    Raises:
        ConfigError: it is not there, or not what was written.
    """
    path = folder / name
    try:
        content, expected = path.read_bytes(), told["files"][name]["sha256"]
    except (OSError, KeyError, TypeError) as mistake:
        raise damaged(path, repr(mistake)) from None
    if digest(content) != expected:
        raise damaged(path, "its sha256 is not that of contract.json")
    return content


def damaged(path: Path, cause: str):
    """What to say of a file that cannot be used."""
    return keys.error(f"{path} cannot be read ({cause}); export the policy again with python -m jaxrl.export")


def digest(content: bytes) -> str:
    """SHA-256 as contract.json has it."""
    return hashlib.sha256(content).hexdigest()
