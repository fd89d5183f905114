"""The connections between the processes of one program, by which they agree, and notice at once when one is gone.

A star around process 0, through one port of its host. JAX's own coordination service has the same shape, and ends a
process from inside C++, with a page of stack trace, the moment that process 0 is gone. So its connections are carried
through ours: a thread in each process hands the bytes on, and an end that breaks is kept from JAX until this process
has said, in one line, who is gone. What notices is the kernel: it closes the connections of a process that dies, in
milliseconds, and its keepalive gives up a host that has vanished after `SILENCE_S` seconds.

Messages are lines of JSON. The first line of a connection says what it is for.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxrl.types import ConfigError

LOST = 4  # exit status of a process that ends because another one is gone
SILENCE_S = 30  # of a host, after which it is given up
GRACE_S = 30.0  # for what must be finished before leaving, such as a checkpoint that is being written
NEWS_S = 2.0  # in which a loss is known here, when a computation across the processes has already failed of it
PARTING_S = 10.0  # that a process which failed waits for the others to fail as well
HELLO = "jaxrl"
LONGEST_HELLO = 100  # bytes


class Lifeline:
    """What both kinds of ends have: messages that come, and the alarm.

    Args:
        process_id: of this process.
        num_processes: of the program.
    """

    def __init__(self, process_id: int, num_processes: int):
        self.process_id, self.num_processes = process_id, num_processes
        self.at_loss: list[Callable[[], Any]] = []  # what is called before this process ends because of another
        self._is_lost = threading.Event()
        self._is_armed = True
        self._ending = threading.Lock()

    def lose(self, line: str) -> None:
        """Ends this process, in any thread: what is being saved is finished, and the line is said."""
        if not self._is_armed or not self._ending.acquire(blocking=False):
            return
        self._is_lost.set()
        self._pass_on(line)
        finish = threading.Thread(target=self._finish, daemon=True)
        finish.start()
        finish.join(GRACE_S)
        with contextlib.suppress(OSError):
            os.write(
                sys.stderr.fileno(), f"error: {line}; the same command goes on from the last checkpoint.\n".encode()
            )
        os._exit(LOST)  # the main thread may wait in a collective for ever

    def give_way(self) -> None:
        """After a mistake that may come of a loss: comes back, after NEWS_S, only if there is none."""
        if self._is_lost.wait(NEWS_S):
            threading.Event().wait()  # for `lose`, which ends this process

    def leave_behind(self, line: str) -> None:
        """Tells the others that this process ends for a reason of its own, and that they should."""
        self._is_armed = False
        self.send({"gone": line})

    def send(self, message: dict) -> None:
        """To whoever is at the other end."""
        raise NotImplementedError

    def _finish(self):
        for function in self.at_loss:
            function()
        sys.stdout.flush()

    def _pass_on(self, line: str) -> None:
        """Tells others that hear of it from here alone."""


class Hub(Lifeline):
    """The end at process 0, which every other process connects to.

    Args:
        port: on which it listens, on all addresses of this host.
        num_processes: of the program.
        service_port: of JAX's coordination service on this host.
    """

    def __init__(self, port: int, num_processes: int, service_port: int):
        super().__init__(0, num_processes)
        self._service_port = service_port
        self._peers: dict[int, socket.socket] = {}
        self._heard = {peer: queue.Queue() for peer in range(1, num_processes)}
        self._changed = threading.Condition()
        self.signal = 0  # that any other process has received
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            self._server = socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=both)
        except OSError as mistake:
            raise ConfigError(
                f"--coordinator: process 0 cannot listen on port {port} of this host ({mistake.strerror}); "
                "give HOST:PORT with the name of process 0's host and a free port."
            ) from None
        _thread(self._accept)

    def gather_all(self, timeout_s: float) -> None:
        """Waits until every process has come; ConfigError, here and there, if one does not in that time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._peers) == self.num_processes - 1, timeout_s):
                missing = sorted(self._heard.keys() - self._peers.keys())
                line = (
                    f"process_id={', '.join(map(str, missing))} of {self.num_processes} did not join within "
                    f"{timeout_s:g} s; start it with the same --coordinator and --num_processes."
                )
                self.send({"refused": line})
                self.disarm()
                raise ConfigError(line)
        self.send({"ready": True})

    def send(self, message: dict) -> None:
        """To every other process."""
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):  # who is gone is noticed where it is listened to
                _send(peer, message)

    def receive(self, peer: int, timeout_s: float | None = None) -> dict:
        """The next message of a process; queue.Empty after that time."""
        return self._heard[peer].get(timeout=timeout_s)

    def disarm(self) -> None:
        """From here on others may go, and none comes any more."""
        self._is_armed = False
        _close(self._server)

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                _thread(self._welcome, connection)

    def _welcome(self, connection):
        """Carries a connection of JAX's, or listens to a process until it is gone."""
        hello = _read_hello(connection)
        if hello == [HELLO, "service"]:
            _carry(connection, socket.create_connection(("127.0.0.1", self._service_port)))
            return
        if len(hello) != 4 or hello[:2] != [HELLO, "process"] or not (hello[2].isdecimal() and hello[3].isdecimal()):
            connection.close()  # somebody else's
            return
        peer, num_processes = int(hello[2]), int(hello[3])
        with self._changed:
            refusal = ""
            if num_processes != self.num_processes:
                refusal = f"--num_processes={num_processes} is {self.num_processes} in process 0; give all the same."
            elif peer in self._peers or peer not in self._heard:
                refusal = f"--process_id={peer} is there twice; give each process another, from 0 on."
            if refusal:
                _send(connection, {"refused": refusal})
                connection.close()
                return
            self._peers[peer] = connection
            self._changed.notify_all()
        _keep_alive(connection)
        for message in _messages(connection):
            if "signal" in message:
                self.signal = message["signal"]
            elif "gone" in message:
                self.lose(message["gone"])
            else:
                self._heard[peer].put(message)
        self.lose(f"process {peer} of {self.num_processes} is gone")

    def _pass_on(self, line):
        self.send({"gone": line})


class Spoke(Lifeline):
    """The end at any other process.

    Args:
        host, port: of process 0.
        process_id, num_processes: of this one, and of the program.
        timeout_s: for which process 0 is looked for.

    Raises:
        ConfigError: it cannot be reached in that time, or it refuses.
    """

    def __init__(self, host: str, port: int, process_id: int, num_processes: int, timeout_s: float):
        super().__init__(process_id, num_processes)
        self._address = host, port
        self._heard: queue.Queue = queue.Queue()
        self._hub = self._reach(timeout_s)
        _keep_alive(self._hub)
        self._hub.sendall(f"{HELLO} process {process_id} {num_processes}\n".encode())
        _thread(self._listen)
        answer = self.receive()
        if "refused" in answer:
            self._is_armed = False
            _close(self._hub)
            raise ConfigError(answer["refused"])

    def serve(self) -> int:
        """Listens for JAX on this host; the port, behind which is the coordination service of process 0."""
        server = socket.create_server(("127.0.0.1", 0), backlog=64)

        def accept():
            while True:
                connection, _ = server.accept()
                onward = socket.create_connection(self._address)
                onward.sendall(f"{HELLO} service\n".encode())
                _carry(connection, onward)

        _thread(accept)
        return server.getsockname()[1]

    def send(self, message: dict) -> None:
        """To process 0."""
        with contextlib.suppress(OSError):
            _send(self._hub, message)

    def receive(self, timeout_s: float | None = None) -> dict:
        """The next message of process 0; queue.Empty after that time."""
        return self._heard.get(timeout=timeout_s)

    def _reach(self, timeout_s):
        began, pause = time.monotonic(), threading.Event()
        while True:
            try:
                return socket.create_connection(self._address, timeout=max(timeout_s, 1.0))
            except OSError as mistake:  # it may start later, and its name may not be known yet
                if time.monotonic() - began > timeout_s:
                    host, port = self._address
                    raise ConfigError(
                        f"--coordinator={host}:{port} cannot be reached within {timeout_s:g} s "
                        f"({mistake.strerror or mistake}); is process 0 running there, and the port open?"
                    ) from None
                pause.wait(0.2)

    def _listen(self):
        self._hub.settimeout(None)
        for message in _messages(self._hub):
            if "gone" in message:
                self.lose(message["gone"])
            self._is_armed = self._is_armed and not {"end", "refused"} & message.keys()
            self._heard.put(message)
        self.lose(f"process 0 of {self.num_processes} is gone, or cannot be reached any more")


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _close(connection):
    """Closes it also for threads that wait for it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _thread(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _send(connection, message):
    connection.sendall((json.dumps(message) + "\n").encode())


def _messages(connection):
    """Every message, until the connection is closed or breaks."""
    with contextlib.suppress(OSError), connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _read_hello(connection):
    """The words of the first line, read byte by byte: what follows is another's."""
    line = b""
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n") and len(line) < LONGEST_HELLO:
            byte = connection.recv(1)
            if not byte:
                break
            line += byte
    return line.decode("ascii", "replace").split()


def _carry(here, there):
    """Hands on the bytes of two connections; when one ends, the other is left as it is, silent."""
    _thread(_hand_on, here, there)
    _thread(_hand_on, there, here)


def _hand_on(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def _keep_alive(connection):
    """Lets the kernel give up a host that is silent for SILENCE_S seconds, also where there is nothing to send."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": SILENCE_S // 3, "TCP_KEEPINTVL": SILENCE_S // 6, "TCP_KEEPCNT": 4}
    options |= {"TCP_USER_TIMEOUT": 1000 * SILENCE_S}
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
