"""What a run has learned, for programs without JAX or jaxrl: written as one folder, checked before it is.

| file | what it is |
|---|---|
| policy.onnx | the deterministic policy as a graph, with logits where there are options |
| policy.stablehlo | the same, but for the logits, of jax.export: for CPU, CUDA and TPU |
| policy.safetensors | its numbers by torch's names and layouts |
| contract.json | names, order, types and shapes, limits, control period, checksums, and what the check found |
"""

import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import envs
from jaxrl.host import keys, policies
from jaxrl.host.export import check, contract, graph, loaded, observations, optional, weights
from jaxrl.host.export import step as steps
from jaxrl.host.export.step import Step
from jaxrl.types import ConfigError

ONNX, SAFETENSORS = "policy.onnx", "policy.safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")
PACKAGES = ("jaxrl", "jax", "onnx", "onnxruntime")


class Written(NamedTuple):
    """What was exported."""

    folder: Path
    contract: dict[str, Any]  # as contract.json has it

    def __repr__(self):
        return _summary(self)


def export(
    run: str | Path, selector: str | int | Path = "latest", out: str | Path | None = None, force: bool = False
) -> Written:
    """Exports the policy of a run.

    Args:
        run, selector: as `policies.load` takes them.
        out: the folder to write; `export` in the run's by default.
        force: replaces what was exported to it before.

    Raises:
        ConfigError: as `policies.load`; the folder holds something; what would be written is not what the policy says.
    """
    folder = Path(run) / "export" if out is None else Path(out)
    check_folder(folder, force)
    for needed in (optional.onnx, optional.onnxruntime, optional.safetensors, optional.jax_export):
        needed()
    return write(policies.load(run, selector), folder, force)


def write(policy: policies.Policy, folder: Path, force: bool = False) -> Written:
    """Exports a policy to a folder, whole or not at all; see `export`."""
    check_folder(folder, force)
    control, told_dtype = _control(policy), policy.config.network.get("dtype", "float32")
    step = steps.make(policy, control)
    files = {ONNX: as_onnx(step), loaded.FILE: as_stablehlo(step), SAFETENSORS: as_safetensors(step)}
    checks, why = observations.for_check(step)
    found = {
        ONNX: check.compare(ONNX, step, onnx_call(step, files[ONNX]), checks),
        loaded.FILE: check.compare(loaded.FILE, step, _stablehlo_call(files[loaded.FILE]), checks),
    }
    told = contract.describe(step, control, told_dtype, _versions(), found, why)
    _place(folder, lambda temporary: contract.write(temporary, told, files))
    return Written(folder, contract.read(folder))


def check_folder(folder: Path, force: bool) -> None:
    """ConfigError unless an export may be written to the folder."""
    if contract.is_export(folder) and force:
        return
    if contract.is_export(folder):
        raise keys.error(f"{folder} holds an export; give another --out, or --force to replace it")
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise keys.error(f"{folder} holds something that is no export; give another --out")


def as_onnx(step: Step) -> bytes:
    """The step as a file of ONNX."""
    policy = step.policy
    inputs, outputs = ([port.name for port in ports] for ports in (step.inputs, step.outputs))
    env = policy.config.env
    doc = f"{env.suite}/{env.name}, the deterministic policy after {policy.env_steps:,} env steps"
    return graph.build(step.program, inputs, outputs, step.batch, "policy", doc).SerializeToString()


def onnx_call(step: Step, content: bytes):
    """The ONNX file as a function of arrays, run by onnxruntime on the CPU."""
    runtime = optional.onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in step.inputs]
    return lambda *inputs: session.run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))


def as_stablehlo(step: Step) -> bytes:
    """The step's actions and memory as a program of jax.export, the agent's numbers inside."""
    keep = [*range(step.num_actions), *range(len(step.outputs) - step.num_carry, len(step.outputs))]

    def function(*inputs):
        made = step.function(step.policy.agent, *inputs)
        return [made[i] for i in keep]

    shapes = [jax.ShapeDtypeStruct((step.batch, *port.shape), port.dtype) for port in step.inputs]
    with jax.default_matmul_precision("highest"):
        return bytes(optional.jax_export().export(jax.jit(function), platforms=PLATFORMS)(*shapes).serialize())


def _stablehlo_call(content: bytes):
    return jax.jit(optional.jax_export().deserialize(bytearray(content)).call)


def as_safetensors(step: Step) -> bytes:
    """The step's numbers by torch's names."""
    return optional.safetensors().save(weights.as_torch(step))


def _control(policy) -> envs.Control:
    try:
        return envs.control(policy.config.env)
    except ConfigError:  # the environment cannot be made; what it would have told is left out
        return envs.Control()


def _versions() -> dict[str, str | None]:
    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in PACKAGES} | {"opset": graph.OPSET}


def _place(folder: Path, fill) -> None:
    """Writes a folder beside its place and moves it there: nobody sees half of one."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        fill(temporary)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    except (OSError, ValueError) as mistake:  # ValueError: a name that no folder can have
        raise keys.error(f"{folder} cannot be written ({mistake}); give another --out") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _summary(written: Written) -> str:
    """What was written, what it takes and gives, and how near it is."""
    told = written.contract
    ports = {side: ", ".join(map(_port, told[side])) for side in ("inputs", "outputs")}
    lines = [
        f"{told['env']['name']} ({told['env']['suite']}) after {told['env_steps']:,} env steps, to {written.folder}",
        f"  {ports['inputs']} → {ports['outputs']}",
    ]
    for file in told["files"]:
        found = [kind for kind in told["check"].get(file, {}).values()]
        worst = max((error for kind in found for error in kind["max_error"].values()), default=None)
        says = (
            ""
            if worst is None
            else f", differs by at most {worst:.1e} on {sum(k['inputs'] for k in found):,} observations"
        )
        lines.append(f"  {file}, {told['files'][file]['bytes']:,} bytes{says}")
    if told["check"]["not_recorded"]:
        lines.append(f"  random observations alone: {told['check']['not_recorded']}")
    return "\n".join(lines)


def _port(port) -> str:
    return f"{port['name']} {port['dtype']}[{', '.join(map(str, port['shape']))}]"
