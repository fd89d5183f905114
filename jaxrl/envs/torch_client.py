"""A torch simulator that runs in a process of its own, as if it were here; `torch_server.py` says how they talk.

What is returned lies in memory that both processes have, and is overwritten with the next step.
"""

import inspect
import os
import signal
import socket
import subprocess
import tempfile
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.envs import torch_server
from jaxrl.types import ConfigError

CLOSING_S = 10.0  # seconds that a simulator has to end when nobody needs it any more


class Client:
    """The simulator by the attributes that torch_contracts.py asks for.

    Args:
        python: a Python, its path or its name on the PATH; it needs NumPy, torch and the simulator.
        name: of the user's function by its dotted path, as that Python imports it.
        options: of the function.

    Raises:
        ConfigError: that Python cannot be started, or the function cannot be imported or fails.
    """

    def __init__(self, python: str, name: str, options: dict[str, Any]):
        self._setting = f"config.env.name={name!r} under config.env.python={python!r}"
        self._process, connection, memory, self._log = _start(python)
        self.close = weakref.finalize(self, _end, self._process, connection, memory, self._log)
        self._wire = torch_server.Wire(connection, memory, lambda: self._process.poll() is None)
        self._counter = None
        try:
            told = self._ask({"simulator": name, "options": options}, protocol=torch_server.PROTOCOL)
            if told["protocol"] != torch_server.PROTOCOL:
                raise ConfigError(f"{self._setting} speaks protocol {told['protocol']}, not {torch_server.PROTOCOL}.")
            if told["is_vmas"]:
                raise ConfigError(f"{self._setting} makes a VMAS environment, which is not served; leave python empty.")
        except ConfigError:
            self.close()
            raise
        self._show(told)

    def _show(self, told):
        """Gives itself the attributes of the simulator."""
        self.num_agents, self.max_episode_length = told["num_agents"], told["max_episode_length"]
        self.metadata = {"autoreset_mode": told["autoreset_mode"]}
        space = {name: np.asarray(bound) for name, bound in told["action_space"].items()}
        self.action_space = types.SimpleNamespace(**space) if space else None
        for name in told["functions"]:
            setattr(self, name, self._function(name))
        self.manual_seed = self._function("manual_seed")
        if told["saves"]:
            self.get_env_state = lambda: self._state
        if told["counter"]:
            self._counter = told["counter"]
            setattr(self, self._counter, self._count)
        if told["waits_for"] is not None:  # a VecTask, of whose buffers nobody reads another
            self.reset_buf = self.obs_buf = _Flags(told["waits_for"], self._function("restart_all"))
        if "reset" in told["functions"]:
            takes = [name for name in told["reset_takes"] if name in ("seed", "options")]
            parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in takes]
            self.reset.__signature__ = inspect.Signature(parameters)

    def _function(self, name):
        def call(*arguments, **named):
            self._ask((arguments, named), call=name)
            return self._returned

        return call

    def _ask(self, tree, **message):
        """Sends a request, keeps what is told with the reply, and returns its line."""
        if not self.close.alive:
            raise ConfigError(f"{self._setting} {self._epitaph()}")
        try:
            self._wire.send(tree, **message)
            told, message = self._wire.receive()
        except (EOFError, ConnectionError):
            raise ConfigError(f"{self._setting} {self._epitaph()}") from None
        if "error" in message:
            raise ConfigError(f"{self._setting} fails ({message['error']}); its output is in {self._log}.")
        self._returned, self._state, self._count = told["returned"], told["state"], told["counter"]
        if self._counter:
            setattr(self, self._counter, self._count)
        return message

    def _epitaph(self):
        self.close()
        status = self._process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        said = [line for line in Path(self._log).read_text(errors="replace").splitlines() if line.strip()]
        last = f"; the last that it said: {said[-1].strip()[:200]}" if said else ""
        return f"has ended ({how}){last}; its output is in {self._log}."


class _Flags:
    """The flags of a VecTask by which it restarts in its next step."""

    def __init__(self, size, fill):
        import torch

        self._size, self._fill, self.device = size, fill, torch.device("cpu")

    def __len__(self):
        return self._size

    def fill_(self, value):
        self._fill(value)


def _start(python):
    """(process, our end of the socket, descriptor of the memory, path of what the process says)."""
    ours, theirs = socket.socketpair()
    memory = _memory()
    with theirs, tempfile.NamedTemporaryFile(prefix="jaxrl-simulator-", suffix=".log", delete=False) as log:
        command = [os.path.expanduser(python), torch_server.__file__, str(theirs.fileno()), str(memory)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), memory),
                start_new_session=True,  # Ctrl-C is for us: what is learned is saved before this ends
            )
        except OSError as mistake:
            ours.close()
            os.close(memory)
            os.remove(log.name)
            raise ConfigError(
                f"config.env.python={python!r} cannot be started ({mistake.strerror}); give the path of a Python "
                "that has the simulator, such as .venv-isaac/bin/python."
            ) from None
    return process, ours, memory, log.name


def _memory():
    """Descriptor of a file without a name that both can map."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("jaxrl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _end(process, connection, memory, log):
    """Ends the process; what it said is kept if it failed."""
    connection.close()
    os.close(memory)
    try:
        process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode == 0:
        Path(log).unlink(missing_ok=True)
