"""A script of this folder in a process of its own, and the wire to it; `torch_server.py` says how they talk."""

import os
import signal
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxrl.envs import torch_server
from jaxrl.types import ConfigError

CLOSING_S = 10.0  # seconds that a process has to end when nobody needs it any more


class Child:
    """The process, which ends when nobody has this any more.

    Args:
        python: that runs it, its path or its name on the PATH.
        script: the module to run.
        setting: what of the config made it, for errors.

    Raises:
        ConfigError: that Python cannot be started.
    """

    def __init__(self, python: str, script: ModuleType, setting: str):
        self._setting = setting
        self.process, connection, memory, self._log = _start(python, script.__file__)
        self.close = weakref.finalize(self, _end, self.process, connection, memory, self._log)
        self._wire = torch_server.Wire(connection, memory, lambda: self.process.poll() is None)

    def share(self, cuda: torch_server.Cuda | None) -> None:
        """Leaves tensors of a GPU there on their way; the process must do so too. None: all go by the host."""
        self._wire.cuda = cuda

    def ask(self, tree: Any, **message) -> tuple[Any, dict]:
        """What comes back for a request: a tree, in memory that the next one overwrites, and the line with it.

        Raises:
            ConfigError: the process has ended, or it says that it failed.
        """
        self.send(tree, **message)
        return self.receive()

    def send(self, tree: Any, **message) -> None:
        """The first half of `ask`."""
        if not self.close.alive:
            raise ConfigError(f"{self._setting} {self._epitaph()}")
        try:
            self._wire.send(tree, **message)
        except ConnectionError:
            raise ConfigError(f"{self._setting} {self._epitaph()}") from None

    def receive(self) -> tuple[Any, dict]:
        """The second half of `ask`."""
        try:
            tree, message = self._wire.receive()
        except (EOFError, ConnectionError):
            raise ConfigError(f"{self._setting} {self._epitaph()}") from None
        if "error" in message:
            raise ConfigError(f"{self._setting} fails ({message['error']}); its output is in {self._log}.")
        return tree, message

    def _epitaph(self):
        self.close()
        status = self.process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        said = [line for line in Path(self._log).read_text(errors="replace").splitlines() if line.strip()]
        last = f"; the last that it said: {said[-1].strip()[:200]}" if said else ""
        return f"has ended ({how}){last}; its output is in {self._log}."


def _start(python, script):
    """(process, our end of the socket, descriptor of the memory, path of what the process says)."""
    ours, theirs = socket.socketpair()
    memory = _memory()
    with theirs, tempfile.NamedTemporaryFile(prefix="jaxrl-simulator-", suffix=".log", delete=False) as log:
        command = [os.path.expanduser(python), script, str(theirs.fileno()), str(memory)]
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
