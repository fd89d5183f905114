"""Several processes as one program: the numbers of one, one end for all, and nothing lost when one is killed."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.host import checkpoint, lifeline, processes, program, sharding
from jaxrl.types import ConfigError

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXPERIMENT = HERE / "processes_experiment.py"
NOTICED_S = 5.0  # in which a process that was killed is noticed; stated in docs/pods.md


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    printed: str
    errors: str
    seconds: float  # from the first end of a process to this one


def start(index, workdir, port, devices, sent, arguments):
    environment = dict(
        os.environ,
        XLA_FLAGS=f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        PYTHONPATH=str(HERE.parent.parent),
    )
    command = [
        sys.executable, str(HERE / "processes_child.py"), *map(str, sent), f"--config={EXPERIMENT}",
        f"--workdir={workdir}", f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={index}",
        *arguments,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def two(workdir, *arguments, devices=1, sent=None, only=None):
    """Two processes of one program, to their end.

    Args:
        sent: process -> (signal, env steps at which it sends that to itself).
        only: process -> arguments that it alone is given.
    """
    port = lifeline.free_port()
    pair = [
        start(i, workdir, port, devices, (sent or {}).get(i, (0, 0)), [*arguments, *(only or {}).get(i, ())])
        for i in (0, 1)
    ]
    ended: dict[int, tuple] = {}

    def follow(index):
        told = pair[index].communicate(timeout=300)
        ended[index] = (*told, time.monotonic())

    threads = [threading.Thread(target=follow, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began = min(at for _, _, at in ended.values())
    return [Ended(pair[i].returncode, *ended[i][:2], ended[i][2] - began) for i in (0, 1)]


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved(workdir):
    """The checkpoints of a run."""
    return checkpoint.Checkpointer(workdir / "checkpoints", checkpoint.default_config())


def parameters(workdir, env_steps):
    """Those that a checkpoint holds, by path."""
    source = program.make(jaxrl.configure(str(EXPERIMENT)), sharding.mesh())
    template = jax.eval_shape(source.init, np.uint32(0), jax.tree.map(np.float32, source.algorithm.hyper))
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template.agent.params)
    state, _ = saved(workdir).restore(Part(AgentPart(host)), env_steps, partial=True)
    return jax.tree.leaves(state.agent.params)


class AgentPart(NamedTuple):
    """The parameters of an agent."""

    params: dict


class Part(NamedTuple):
    """Of a TrainState."""

    agent: AgentPart


def assert_same_curve(workdir, other):
    """The same rows but for clocks, once each, to 1e-5."""
    here, there = rows(workdir), rows(other)
    assert [row["env_steps"] for row in here] == [row["env_steps"] for row in there]
    for a, b in zip(here, there, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if name != "wall_seconds" and not name.startswith("speed/"):
                assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-5), (name, a["env_steps"])


def files(workdir):
    """What a run leaves, but for the names of its checkpoints' innards."""
    return {path.relative_to(workdir).as_posix() for path in workdir.glob("*")} | {
        path.relative_to(workdir).as_posix() for path in workdir.glob("checkpoints/*")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process with eight devices that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    jaxrl.train(EXPERIMENT, workdir)
    return workdir


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Three updates by two processes with four devices each."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    return workdir, two(workdir, "--config.total_env_steps=768", devices=4)


def test_two_processes_of_four_devices_give_the_parameters_of_one_with_eight_and_with_one(
    pair, whole, tmp_path, monkeypatch
):
    workdir, ended = pair
    assert [process.status for process in ended] == [0, 0]
    one = sharding.mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "mesh", lambda devices=None: one)
    jaxrl.train(EXPERIMENT, tmp_path / "one", {"total_env_steps": 768})
    monkeypatch.undo()
    assert_same_curve(workdir, tmp_path / "one")
    ours = parameters(workdir, 768)
    for other in (whole, tmp_path / "one"):
        for a, b in zip(ours, parameters(other, 768), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_process_0_alone_writes_what_a_run_leaves_and_says_what_it_does(pair, whole):
    workdir, (first, second) = pair
    assert files(workdir) - {"plots"} == {
        name for name in files(whole) if name.split("/")[-1] not in ("1024", "1280", "1536")
    }
    assert (workdir / "plots" / "training.png").stat().st_size > 10_000
    assert json.loads((workdir / "run.json").read_text())["devices"] == {"kind": "cpu", "count": 8, "processes": 2}
    assert "ended" in json.loads((workdir / "run.json").read_text())["starts"][-1]
    assert re.search(r"jaxrl trains target \(probe\) on 8 x cpu of 2 processes", first.printed)
    assert "768 env steps" in first.printed
    assert "env steps" not in second.printed
    assert [first.errors, second.errors] == ["", ""]


def test_a_signal_to_one_process_saves_and_ends_both_and_the_same_command_goes_on(whole, tmp_path):
    workdir = tmp_path / "run"
    ended = two(workdir, sent={1: (signal.SIGTERM, 256)})
    assert [process.status for process in ended] == [128 + signal.SIGTERM] * 2, ended
    steps = saved(workdir).steps()
    assert 256 <= steps[-1] < 1536
    assert rows(workdir)[-1]["env_steps"] == steps[-1]
    ended = two(workdir)
    assert [process.status for process in ended] == [0, 0], ended
    assert f"goes on from {steps[-1]:,} env steps" in ended[0].printed
    assert_same_curve(workdir, whole)


@pytest.mark.parametrize("killed, left", [(0, 1), (1, 0)])
def test_when_one_process_is_killed_the_other_says_so_and_ends_and_the_run_goes_on(whole, tmp_path, killed, left):
    workdir = tmp_path / "run"
    ended = two(workdir, sent={killed: (signal.SIGKILL, 1024)})
    assert ended[killed].status == -signal.SIGKILL
    assert ended[left].status == lifeline.LOST == 4
    line = rf"error: process {killed} of 2 is gone.*; the same command goes on from the last checkpoint\.\n"
    assert re.fullmatch(line, ended[left].errors), ended[left].errors
    assert ended[left].seconds < NOTICED_S
    assert saved(workdir).latest() >= 512  # that of 768, which waited for it, may have been under way
    if killed == 1:
        ended = two(workdir)
        assert [process.status for process in ended] == [0, 0], ended
    else:  # as one process, with another number of devices
        assert jaxrl.train(EXPERIMENT, workdir).env_steps == 1536
    assert_same_curve(workdir, whole)
    for a, b in zip(parameters(workdir, 1536), parameters(whole, 1536), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


FAILING = """
import sys, threading
from jaxrl.host import lifeline, processes
crew = processes.Crew(lifeline.Spoke("localhost", int(sys.argv[1]), 1, 2, timeout_s=30))
saved = threading.Event()
crew.at_loss(lambda: saved.wait(30))  # a checkpoint that is being written
def collective():
    print("ready", flush=True)
    sys.stdin.read()  # until process 0 is gone
    threading.Timer(1, saved.set).start()
    raise ValueError("Gloo AllGather failed: Connection reset by peer")
crew.run(collective)
"""


def test_a_collective_that_fails_of_the_loss_before_a_save_is_done_leaves_one_line():
    with socket.create_server(("localhost", 0)) as process_0:
        child = subprocess.Popen(
            [sys.executable, "-c", FAILING, str(process_0.getsockname()[1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        connection, _ = process_0.accept()
        with connection:
            connection.sendall(b'{"ready": true}\n')
            assert child.stdout.readline() == "ready\n"
    _, errors = child.communicate(timeout=60)
    assert re.fullmatch(r"error: process 0 of 2 is gone.*; the same command goes on .*\.\n", errors), errors
    assert child.returncode == lifeline.LOST


def test_numbers_that_are_not_finite_end_both_processes(tmp_path):
    huge = ("--config.ppo.learning_rate=1.0", "--config.ppo.value_cost=1e38", "--config.ppo.max_gradient_norm=0.0")
    ended = two(tmp_path / "run", *huge)
    assert [process.status for process in ended] == [3, 3], ended
    for process in ended:
        assert re.fullmatch(r"error: .* not finite at [\d,]+ env steps; .*\n", process.errors)


def test_processes_with_different_configs_are_refused_in_one_line(tmp_path):
    ended = two(tmp_path / "run", only={1: ["--config.ppo.gamma=0.5"]})
    assert [process.status for process in ended] == [2, 2]
    for process in ended:
        assert re.fullmatch(
            r"error: config\.ppo\.gamma=0\.5 in process 1 is 0\.99 in process 0; .*\n", process.errors
        ), process.errors
    assert not (tmp_path / "run").exists()


@pytest.mark.gymnasium
def test_an_environment_on_the_host_is_refused_in_one_line(tmp_path):
    ended = two(tmp_path / "run", "--config.env.suite=gymnasium", "--config.env.name=CartPole-v1")
    assert [process.status for process in ended] == [2, 2]
    assert all(re.fullmatch(r"error: config\.env\.suite=gymnasium .*--num_processes=1.*\n", e.errors) for e in ended)


@pytest.fixture
def nowhere(monkeypatch):
    """Without a cluster's variables."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "JAX_COORD", "JAX_NUM_PROC", "JAX_PROCESS", "JOB_COMPLETION")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_without_flags_or_a_cluster_a_process_is_alone(nowhere):
    assert processes.group({}) is None
    crew = processes.join(None)
    assert (crew.is_first, crew.size, crew.first(lambda: 3), crew.gather(4), crew.signal(15)) == (True, 1, 3, [4], 15)


def test_flags_say_which_process_this_is_and_variables_do_where_they_do_not(nowhere):
    flags = {"coordinator": "tpu-0:1234", "num_processes": "4", "process_id": "3"}
    assert processes.group(flags) == processes.Group("tpu-0:1234", 4, 3)
    nowhere.setenv("JAX_COORDINATOR_ADDRESS", "tpu-0:1234")
    nowhere.setenv("JAX_NUM_PROCESSES", "4")
    nowhere.setenv("JAX_PROCESS_ID", "1")
    assert processes.group({}) == processes.Group("tpu-0:1234", 4, 1)
    assert processes.group({"process_id": "2"}) == processes.Group("tpu-0:1234", 4, 2)
    assert processes.group({"num_processes": "1", "process_id": "0"}) is None


def slurm(monkeypatch, tasks, task, local, per_node):
    settings = {"JOB_ID": 77, "STEP_NODELIST": "node[07-08]", "NTASKS": tasks, "PROCID": task, "LOCALID": local}
    for name, value in (settings | {"STEP_TASKS_PER_NODE": per_node}).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


@pytest.mark.parametrize(
    "tasks, task, local, per_node, devices",
    [(2, 1, 0, "1(x2)", None), (4, 3, 1, "2(x2)", [1])],
)
def test_slurm_tells_where_processes_meet_and_each_takes_its_hosts_devices(
    nowhere, tasks, task, local, per_node, devices
):
    slurm(nowhere, tasks, task, local, per_node)
    group = processes.group({})
    assert re.fullmatch(r"node07:\d+", group.coordinator)
    assert group[1:] == (tasks, task, devices)
    assert processes.group({"num_processes": "1"}) is None


def test_one_task_of_slurm_is_alone(nowhere):
    slurm(nowhere, 1, 0, 0, "1")
    assert processes.group({}) is None


def test_open_mpi_5_asks_for_a_place_to_meet(nowhere):
    nowhere.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"Open MPI has started 4 processes .* --coordinator=HOST:PORT"):
        processes.group({})


@pytest.mark.parametrize(
    "flags, line",
    [
        (
            "--coordinator=a:1 --num_processes=2 --process_id=2",
            "--process_id=2 is none of --num_processes=2; they are 0 to 1.",
        ),
        ("--coordinator=a --num_processes=2 --process_id=0", "--coordinator=a must be HOST:PORT"),
        ("--coordinator=a:port --num_processes=2 --process_id=0", "--coordinator=a:port must be HOST:PORT"),
        ("--coordinator=a:1 --num_processes=2", "--process_id is missing"),
        ("--num_processes=2 --process_id=1", "--coordinator is missing"),
        ("--coordinator=a:1 --num_processes=two --process_id=0", "--num_processes=two must be a whole number"),
        ("--coordinator=a:1 --num_processes=0 --process_id=0", "--num_processes=0 must be at least 1"),
        ("--coordinater=a:1", "did you mean --coordinator=a:1?"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line_and_status_2(nowhere, tmp_path, capsys, flags, line):
    train = importlib.import_module("jaxrl.train")
    assert train.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'run'}", *flags.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and line in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_sweep_of_several_processes_is_one_line_and_status_2(nowhere, tmp_path, capsys):
    sweep = importlib.import_module("jaxrl.sweep")
    flags = ["--coordinator=a:1", "--num_processes=2", "--process_id=0", "--seeds=2"]
    assert sweep.main([f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'run'}", *flags]) == 2
    assert "start one sweep on each host, with --num_processes=1" in capsys.readouterr().err


def test_a_coordinator_that_cannot_be_reached_is_one_line():
    with pytest.raises(ConfigError, match=r"--coordinator=localhost:\d+ cannot be reached within 0\.1 s"):
        lifeline.Spoke("localhost", lifeline.free_port(), 1, 2, timeout_s=0.1)


def test_a_process_that_does_not_come_is_named():
    hub = lifeline.Hub(lifeline.free_port(), 3, 1)
    with pytest.raises(ConfigError, match=r"process_id=1, 2 of 3 did not join within 0\.1 s"):
        hub.gather_all(0.1)


def test_a_port_in_use_is_one_line():
    port = lifeline.free_port()
    hub = lifeline.Hub(port, 2, 1)
    with pytest.raises(ConfigError, match=f"cannot listen on port {port} of this host"):
        lifeline.Hub(port, 2, 1)
    hub.disarm()


@pytest.mark.parametrize(
    "process_id, num_processes, line",
    [(1, 3, "--num_processes=3 is 2 in process 0"), (1, 2, "--process_id=1 is there twice")],
)
def test_a_process_that_does_not_fit_is_refused(process_id, num_processes, line):
    port = lifeline.free_port()
    hub = lifeline.Hub(port, 2, 1)
    first = threading.Thread(target=lambda: lifeline.Spoke("localhost", port, 1, 2, timeout_s=5.0))
    first.start()
    hub.gather_all(5.0)
    first.join()
    with pytest.raises(ConfigError, match=line):
        lifeline.Spoke("localhost", port, process_id, num_processes, timeout_s=5.0)
    hub.disarm()
