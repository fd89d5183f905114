"""The cores of a CPU are devices of a run, as many as it has use for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxrl import cores, envs
from jaxrl.host import sharding

EXPERIMENT = Path(__file__).with_name("probe_experiment.py")


def quota(folder, *texts):
    """The files of a control group with these contents."""
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(text + "\n")
    return (tuple(str(folder / str(number)) for number in range(len(texts))),)


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (("150000 100000",), 2),
        (("10000 100000",), 1),
        (("max 100000",), 8),
        (("100000", "100000"), 1),
        (("-1", "100000"), 8),
        (("nonsense",), 8),
    ],
)
def test_a_container_has_the_cores_that_it_has_the_time_of(tmp_path, monkeypatch, texts, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores.number(quota(tmp_path, *texts)) == share
    assert cores.number(((str(tmp_path / "nowhere"),),)) == 8


@pytest.mark.parametrize(("num_envs", "devices"), [(1, 1), (63, 1), (64, 2), (96, 2), (130, 2), (256, 8), (4096, 8)])
def test_a_run_takes_as_many_as_share_its_environments_evenly_with_32_or_more_each(num_envs, devices, monkeypatch):
    monkeypatch.setattr(sharding, "_has_cores", True)
    assert len(jax.devices()) == 8
    assert sharding.fitting(num_envs, on_host=False).size == devices
    assert sharding.fitting(num_envs, on_host=True).size == 1


def test_suites_on_the_host_say_so():
    assert not envs.on_host("probe") and not envs.on_host("brax")
    assert all(map(envs.on_host, ("gymnasium", "envpool", "dm_control", "torch_bridge")))


def train(folder, env_steps, **environ):
    """The number of devices that a run took, by its own record, and what it printed."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"} | environ
    flags = env["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=1", "")
    options = [f"--config.total_env_steps={env_steps}", "--config.ppo.num_envs=128"]
    command = [sys.executable, "-m", "jaxrl.train", f"--config={EXPERIMENT}", f"--workdir={folder}", *options]
    done = subprocess.run(command, env=env | {"XLA_FLAGS": flags}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run.json").read_text())["starts"][-1]["devices"]["count"], done.stderr + done.stdout


def test_a_run_takes_the_cores_and_goes_on_with_one(tmp_path):
    count, _ = train(tmp_path / "run", 2560)
    assert count == min(1 << (cores.number().bit_length() - 1), 4)
    count, told = train(tmp_path / "run", 5120, JAX_NUM_CPU_DEVICES="1")
    assert count == 1 and "goes on from 2,560 env steps" in told
