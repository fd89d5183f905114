"""Torch simulators in a process of their own: what they show is what they show here, and how they fail.

Letters in shapes: T steps, N environments.
"""

import ast
import gc
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import torch_bridge as suite
from jaxrl.envs import torch_client, torch_server
from jaxrl.types import ConfigError

HERE = Path(__file__).parent
T, N = 1000, 12
CONTRACTS = "task_late task_early task_same lab rl_games rsl_rl legged told next_step on_demand".split()
USERS = """
import os, signal, types
import numpy as np
import torch

class Simulator:
    max_episode_length = 50
    action_space = types.SimpleNamespace(shape=(2,), low=-np.ones(2), high=np.ones(2))

    def __init__(self, num_envs):
        self.obs, self.number, self.flags = torch.zeros(num_envs, 3), 0, torch.zeros(num_envs, dtype=torch.bool)

    def reset(self):
        self.obs.uniform_()
        return self.obs

    def step(self, action):
        self.number += 1
        return self.obs, action[:, 0], self.flags, self.flags, {"log": object(), "episode": 1}

class Raises(Simulator):
    def step(self, action):
        if self.number == 2:
            self.number = 0
            raise ValueError("the floor\\nhas fallen in")
        return super().step(action)

class Dies(Simulator):
    def step(self, action):
        print("PhysX: out of memory", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

class Grows(Simulator):
    def step(self, action):
        self.number += 1
        return self.obs, action[:, 0], self.flags, self.flags, {"time_outs": torch.zeros(self.number)}

class Learns(Simulator):
    state = {"level": 0, "frames": 2**40, "grid": torch.zeros(3, dtype=torch.float64), "on": False}

    def step(self, action):
        self.state["level"] += 1
        self.state["grid"] += 0.1
        return super().step(action)

    def get_env_state(self):
        return self.state

    def set_env_state(self, state):
        self.state = state

class Ends(Simulator):
    def close(self):
        with open(os.environ["ENDED"], "w") as file:
            file.write(os.path.basename(os.getcwd()))

def fails(num_envs, task="Ant"):
    raise RuntimeError("no GPU for " + task)
"""


@pytest.fixture(autouse=True)
def users_modules(monkeypatch, tmp_path):
    """A folder that both processes import from: the stand-ins, and what a test writes into it."""
    shutil.copy(HERE / "torch_stand_ins.py", tmp_path)
    (tmp_path / "users_simulators.py").write_text(USERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch_stand_ins", raising=False)
    return tmp_path


def bridge(python=sys.executable, name="torch_stand_ins.make", **options):
    config = suite.default_config()
    config.update({"name": name, "python": python, "options": tuple(f"{k}={v}" for k, v in options.items())})
    return suite.make(config, N)


def play(env, num_steps=T, seed=0):
    """The first timestep and all others, [T, N, ...]."""
    state, first = env.reset(jax.random.key(seed))
    actions = np.random.default_rng(seed).uniform(-1.5, 1.5, (num_steps, *first.reward.shape, 2)).astype(np.float32)
    kept = []
    for action in actions:
        state, timestep = env.step(state, jnp.array(action))
        kept.append(timestep)
    return first, jax.tree.map(lambda *leaves: np.stack(leaves), *kept)


@pytest.mark.torch
@pytest.mark.parametrize(
    "contract, manners",
    [
        *((contract, "plain") for contract in CONTRACTS),
        *((contract, "awkward") for contract in ("task_late", "legged", "on_demand")),
    ],
)
def test_every_contract_gives_the_trajectory_that_it_gives_in_this_process(contract, manners):
    here, there = (bridge(python, contract=contract, manners=manners) for python in ("", sys.executable))
    assert here.spec == there.spec
    expected, shown = play(here), play(there)
    jax.tree.map(np.testing.assert_array_equal, shown, expected)
    steps = shown[1]
    assert steps.terminated.any() and steps.truncated.any()
    types_of = lambda tree: jax.tree.map(lambda leaf: leaf.dtype.name, tree)  # noqa: E731
    assert types_of(shown) == types_of(expected)


def test_the_server_is_one_file_for_the_old_pythons():
    source = Path(torch_server.__file__).read_text()
    nodes = list(ast.walk(ast.parse(source, feature_version=(3, 7))))
    imported = {each.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for each in node.names}
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert imported - set(sys.stdlib_module_names) == {"numpy", "torch"}


def wires():
    ours, theirs = socket.socketpair()
    memory = os.memfd_create("test")
    return torch_server.Wire(ours, memory), torch_server.Wire(theirs, memory), (ours, theirs, memory)


@pytest.mark.torch
def test_trees_of_all_kinds_go_both_ways_and_places_are_told_once():
    import torch

    here, there, (ours, theirs, memory) = wires()
    tree = {
        "numbers": [2**60, -0.1, float("inf"), True, None, "text"],
        "arrays": (np.arange(5, dtype=np.uint16), np.zeros((0, 3))),
        "tensors": [
            torch.arange(6).reshape(2, 3)[:, ::2],
            torch.tensor(3.5, dtype=torch.float64),
            torch.tensor([True, False]),
            torch.ones(3, dtype=torch.float16, requires_grad=True),
            torch.zeros(0, 4),
        ],
    }
    places = []
    for sender, receiver in ((here, there), (here, there), (there, here)):
        tree["numbers"][0] += 1
        tree["tensors"][0] += 1
        sender.send(tree, word="go")
        got, message = receiver.receive()
        assert message["word"] == "go"
        places.append("layout" in message)
        assert got["numbers"] == tree["numbers"] and type(got["arrays"]) is tuple
        for one, other in zip(got["arrays"], tree["arrays"], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        for one, other in zip(got["tensors"], tree["tensors"], strict=True):
            assert torch.equal(one, other) and one.dtype == other.dtype
    assert places == [True, False, True]
    with pytest.raises(TypeError, match="object is no tensor, array, number or text"):
        here.send({"log": object()})
    here.send(["nothing"])  # and no memory
    assert there.receive()[0] == ["nothing"]
    ours.close()
    with pytest.raises(EOFError):
        there.receive()
    theirs.close()
    os.close(memory)


def mistake_of(function):
    """The message of a ConfigError, which is one line."""
    with pytest.raises(ConfigError) as error:
        function()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.torch
@pytest.mark.parametrize(
    "python, name, message",
    [
        ("/not/there/python", "Simulator", r"config.env.python='/not/there/python' cannot be started \(No such file"),
        ("/", "Simulator", r"config.env.python='/' cannot be started \(Permission denied\); give the path"),
        ("false", "Simulator", r"under config.env.python='false' has ended \(exit status 1\); its output is in "),
        (sys.executable, "Simulatr", r"fails \(AttributeError: module 'users_simulators' has no attribute 'Simulatr'"),
        (
            sys.executable,
            "fails",
            r"config.env.name='users_simulators.fails' under .* fails \(RuntimeError: no GPU for ",
        ),
    ],
)
def test_what_cannot_be_started_is_one_line(python, name, message):
    assert re.search(message, mistake_of(lambda: bridge(python, f"users_simulators.{name}")))


@pytest.mark.torch
def test_another_protocol_is_one_line(monkeypatch):
    monkeypatch.setattr(torch_server, "PROTOCOL", 99)
    message = mistake_of(lambda: bridge(name="users_simulators.Simulator"))
    assert "protocol 99 is asked for, this server speaks 1" in message


@pytest.mark.torch
def test_the_users_function_is_called_before_torch_is_imported(users_modules):
    """Isaac Gym refuses to be imported after torch."""
    (users_modules / "first.py").write_text(
        "import sys\n\ndef make(num_envs):\n    raise ValueError('torch' if 'torch' in sys.modules else 'nothing')\n"
    )
    assert "fails (ValueError: nothing)" in mistake_of(lambda: bridge(name="first.make"))


@pytest.mark.torch
def test_options_reach_the_function():
    assert "no GPU for Cartpole" in mistake_of(lambda: bridge(name="users_simulators.fails", task="Cartpole"))
    assert "unexpected keyword argument 'size'" in mistake_of(lambda: bridge(name="users_simulators.fails", size=3))


@pytest.mark.torch
def test_a_simulator_that_raises_is_one_line_and_can_be_asked_again(users_modules):
    env = bridge(name="users_simulators.Raises")
    state, _ = env.reset(jax.random.key(0))
    step = lambda: env.step(state, jnp.zeros((N, 2)))  # noqa: E731
    step(), step()
    message = mistake_of(step)
    assert "fails (ValueError: the floor has fallen in); its output is in " in message
    log = Path(re.search(r"output is in (\S+)\.$", message)[1])
    assert log.parent == users_modules and "Traceback" in log.read_text()
    assert step()[1].valid.all()


@pytest.mark.torch
def test_a_process_that_dies_is_one_line_with_the_last_that_it_said():
    env = bridge(name="users_simulators.Dies")
    state, _ = env.reset(jax.random.key(0))
    message = mistake_of(lambda: env.step(state, jnp.zeros((N, 2))))
    assert "has ended (SIGKILL); the last that it said: PhysX: out of memory; its output is in " in message
    mistake_of(lambda: env.step(state, jnp.zeros((N, 2))))  # and again


@pytest.mark.torch
def test_a_process_that_is_killed_between_two_steps_is_one_line():
    simulator = torch_client.Client(sys.executable, "users_simulators.Simulator", {"num_envs": N})
    simulator.reset()
    os.kill(simulator.child.process.pid, signal.SIGKILL)
    assert "has ended (SIGKILL); its output is in " in mistake_of(simulator.reset)


@pytest.mark.torch
def test_what_is_shown_in_ever_new_shapes_is_one_line():
    simulator = torch_client.Client(sys.executable, "users_simulators.Grows", {"num_envs": N})
    import torch

    def many():
        for _ in range(torch_server.MOST_LAYOUTS + 1):
            simulator.step(torch.zeros(N, 2))

    assert "what is shown has another shape each time" in mistake_of(many)
    simulator.close()


@pytest.mark.torch
def test_the_key_seeds_the_other_process():
    env = bridge(name="users_simulators.Simulator")
    first, again, other = (env.reset(jax.random.key(seed))[1].obs for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.torch
def test_what_a_task_says_of_itself_comes_back_in_another_process():
    env = bridge(name="users_simulators.Learns")
    state, _ = env.reset(jax.random.key(0))
    for _ in range(3):
        state, _ = env.step(state, jnp.zeros((N, 2)))
    saved = jax.device_put(state)  # as it comes from a checkpoint
    again = bridge(name="users_simulators.Learns")
    restored, _ = again.reset(jax.random.key(0), saved)
    np.testing.assert_array_equal(restored, saved)
    state, _ = env.step(state, jnp.zeros((N, 2)))
    restored, _ = again.step(restored, jnp.zeros((N, 2)))
    np.testing.assert_array_equal(restored, state)
    assert (np.asarray(state) != np.asarray(saved)).any()


@pytest.mark.torch
def test_a_process_that_nobody_needs_closes_its_simulator_and_leaves_nothing(users_modules, monkeypatch):
    monkeypatch.setenv("ENDED", str(users_modules / "ended"))
    before = set(users_modules.iterdir())
    simulator = torch_client.Client(sys.executable, "users_simulators.Ends", {"num_envs": N})
    process = simulator.child.process
    del simulator
    gc.collect()
    assert process.returncode == 0
    assert (users_modules / "ended").read_text() == Path.cwd().name
    left = {each.name for each in set(users_modules.iterdir()) - before}
    assert left <= {"ended", "__pycache__"}


@pytest.mark.torch
def test_a_process_ends_when_the_one_that_learns_is_killed():
    script = (
        "import sys\nfrom jaxrl.envs import torch_client\n"
        f"client = torch_client.Client(sys.executable, 'users_simulators.Simulator', {{'num_envs': {N}}})\n"
        "print(client.child.process.pid, flush=True)\nsys.stdin.read()"
    )
    path = f"{HERE.parent.parent}:{os.environ['PYTHONPATH']}"
    learner = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    with learner:
        server = os.pidfd_open(int(learner.stdout.readline()))
        learner.kill()
    assert select.select([server], [], [], 60)[0]
    os.close(server)
