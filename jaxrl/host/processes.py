"""Several processes as one program: how they find each other, agree on what to do, and end together.

Every process runs the same command and computes the same program over the devices of all (`jax.distributed`). What
must not differ between them is decided by process 0 and told to the others: `crew.first(...)`. It alone reads and
writes the run folder. Of one process, all of this is nothing: `Alone` has the same methods, which give back what they
get.

A decision is a line of text from process 0 to every other, not a computation of the devices, which would wait behind
the epoch that is under way. Between two processes of one machine, sending takes 10 µs, there and back 0.2 ms.
"""

import importlib.util
import os
import queue
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrl.host import lifeline
from jaxrl.types import ConfigError

JOIN_S = 300.0  # for which processes wait for each other as they start
CHUNK = 1 << 26  # bytes that go to all processes at once
VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


class Group(NamedTuple):
    """Which process of which program this is."""

    coordinator: str  # HOST:PORT of process 0
    num_processes: int
    process_id: int
    local_device_ids: list[int] | None = None  # of this host, that this process takes; None: all that it sees


class Alone:
    """The only process of a program."""

    is_first = True  # whether this is the process that writes
    size = 1

    def first(self, function: Callable[[], Any]) -> Any:
        """What process 0 makes of it, everywhere: what JSON can tell, or its ConfigError. All must call."""
        return function()

    def gather(self, value: Any) -> list | None:
        """What each process gives, in their order; None elsewhere than in process 0. All must call."""
        return [value]

    def signal(self, received: int) -> int:
        """The number of the signal that any process has received, 0 if none has; the same in all. All must call."""
        return received

    def spread(
        self, arrays: list[np.ndarray] | None, forms: list[tuple[tuple[int, ...], np.dtype]]
    ) -> list[np.ndarray]:
        """The arrays of process 0, bit for bit, in all; forms: their shapes and dtypes. All must call."""
        return arrays

    def wait(self) -> None:
        """Until all have come here. Collectives of JAX want that: on a CPU the first waits half a minute, and fails."""

    def at_loss(self, function: Callable[[], Any]) -> None:
        """Calls it before this process ends because another one is gone; what is left is half a minute."""

    def run(self, function: Callable[[], int]) -> int:
        """Calls what gives an exit status, and leaves the program together with the others."""
        return function()


class Crew(Alone):
    """This process among several."""

    def __init__(self, line: lifeline.Hub | lifeline.Spoke):
        self._line = line
        self.is_first, self.size = line.process_id == 0, line.num_processes

    def first(self, function):
        if not self.is_first:
            answer = self._next()
            if "error" in answer:
                raise ConfigError(answer["error"])
            return answer["value"]
        try:
            value = function()
        except ConfigError as mistake:
            self._line.send({"error": str(mistake)})
            raise
        self._line.send({"value": value})
        return value

    def gather(self, value):
        if self.is_first:
            return [value, *(self._next(peer)["value"] for peer in range(1, self.size))]
        self._line.send({"value": value})
        return None

    def signal(self, received):
        if received and not self.is_first:
            self._line.send({"signal": received})  # too late for this answer, in time for the next
        return self.first(lambda: received or self._line.signal)

    def spread(self, arrays, forms):
        from jax.experimental import multihost_utils

        sizes = [int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in forms]
        data = np.zeros(sum(sizes), np.uint8)
        if self.is_first:
            data = np.concatenate([np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays] or [data])
        # In pieces of one size: one program, and no more memory of the devices than a piece takes.
        size = min(CHUNK, max(data.size, 1))
        data = np.pad(data, (0, -data.size % size))
        data = np.concatenate(
            [multihost_utils.broadcast_one_to_all(data[at : at + size]) for at in range(0, data.size, size)] or [data]
        )
        pieces = np.split(data[: sum(sizes)], np.cumsum(sizes)[:-1])
        return [piece.view(dtype).reshape(shape) for piece, (shape, dtype) in zip(pieces, forms, strict=True)]

    def wait(self):
        self.gather(None)
        self.first(lambda: None)

    def at_loss(self, function):
        self._line.at_loss.append(function)

    def run(self, function):
        import jax

        try:
            status = function()
        except BaseException as mistake:
            if isinstance(mistake, Exception):  # of a collective, perhaps, for which JAX raises several types
                self._line.give_way()
            traceback.print_exc()
            status = 130 if isinstance(mistake, KeyboardInterrupt) else 1
        if not self._part(None if status == 0 or status > 128 else lifeline.PARTING_S):
            self._line.leave_behind(f"process {self._line.process_id} of {self.size} has failed with status {status}")
            sys.stdout.flush()
            os._exit(status)  # JAX would wait for the others, which wait for this one
        jax.distributed.shutdown()
        return status

    def _next(self, *peer) -> dict:
        """The next message that is of the program; of one that has failed, none comes any more."""
        while True:
            message = self._line.receive(*peer)
            if "end" not in message:
                return message

    def _part(self, timeout_s) -> bool:
        """Waits until every process has come to its end; False after that time."""
        try:
            if self.is_first:
                for peer in range(1, self.size):
                    while "end" not in self._line.receive(peer, timeout_s):
                        pass
                self._line.disarm()
                self._line.send({"end": True})
            else:
                self._line.send({"end": True})
                while "end" not in self._line.receive(timeout_s):
                    pass
        except queue.Empty:
            return False
        return True


ALONE = Alone()
_crew = ALONE


def crew() -> Alone:
    """Those that this process has joined."""
    import jax

    if jax.process_count() != _crew.size:
        raise ConfigError(
            f"this is one of {jax.process_count()} processes that jax.distributed has joined; "
            "let jaxrl.host.processes.join do it, or python -m jaxrl.train."
        )
    return _crew


def join(group: Group | None) -> Alone:
    """Makes this process one of a program, before anything else touches JAX's devices; None: the only one.

    Raises:
        ConfigError: not all processes have come within JOIN_S seconds, or they do not fit each other.
    """
    global _crew
    if group is None:
        return _crew
    import jax

    host, port = _address(group.coordinator)
    # Its connections are carried by ours, past any proxy.
    os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
    jax.config.update("jax_check_proxy_envs", False)
    if group.process_id == 0:
        service = lifeline.free_port()
        line = lifeline.Hub(port, group.num_processes, service)
        line.gather_all(JOIN_S)
    else:
        line = lifeline.Spoke(host, port, group.process_id, group.num_processes, JOIN_S)
        service = line.serve()
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        f"127.0.0.1:{service}",
        group.num_processes,
        group.process_id,
        local_device_ids=group.local_device_ids,
        cluster_detection_method="deactivate",
        initialization_timeout=int(JOIN_S),
        coordinator_bind_address=f"127.0.0.1:{service}",
        shutdown_timeout_seconds=30,
    )
    _crew = Crew(line)
    return _crew


def group(given: Mapping[str, str]) -> Group | None:
    """Which process this is: as flags say, else as variables do, else as the cluster does; None if it is the only one.

    Args:
        given: the flags by name, of config.PROCESSES.

    Raises:
        ConfigError: they do not fit each other.
    """
    known = {name: os.environ[variable] for name, variable in VARIABLES.items() if os.environ.get(variable)} | given
    numbers = {name: _number(name, known[name]) for name in ("num_processes", "process_id") if name in known}
    if numbers.get("num_processes") == 1 and numbers.get("process_id", 0) == 0:
        return None  # also where a cluster has more
    if len(numbers) < 2:  # JAX_COORDINATOR_ADDRESS alone is where the processes meet that the cluster tells of
        if missing := [name for name in VARIABLES if name not in known and given]:
            raise ConfigError(
                f"--{missing[0]} is missing; give all of --coordinator, --num_processes and --process_id."
            )
        return detected(known.get("coordinator"))
    if "coordinator" not in known:
        raise ConfigError("--coordinator is missing; give HOST:PORT, the host of process 0 and a free port there.")
    _address(known["coordinator"])
    count, number = numbers["num_processes"], numbers["process_id"]
    if number >= count:
        raise ConfigError(
            f"--process_id={number} is none of --num_processes={count}; they are 0 to {count - 1}."
            if count
            else "--num_processes=0 must be at least 1."
        )
    return Group(known["coordinator"], count, number, _local_device_ids(None))


def detected(coordinator: str | None = None) -> Group | None:
    """What JAX's own detection finds: Slurm, Open MPI 4, Cloud TPU, Kubernetes; None where that is one process.

    Args:
        coordinator: where they meet, if the cluster is not to say that.

    Raises:
        ConfigError: there are several, and where they meet cannot be found out.
    """
    count = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if not _has_sign_of_cluster():
        if count != "1":  # Open MPI 5 does not tell where its processes meet
            raise ConfigError(
                f"Open MPI has started {count} processes and tells no place to meet; give --coordinator=HOST:PORT "
                "--num_processes=$OMPI_COMM_WORLD_SIZE --process_id=$OMPI_COMM_WORLD_RANK, or --num_processes=1."
            )
        return None
    from jax._src import clusters  # what jax.distributed.initialize() asks, which cannot be asked without initialising

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the package `kubernetes` is not there, in any pod
        try:
            found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
                coordinator, None, None, None, None, int(JOIN_S)
            )
        except Exception as mistake:  # whatever a cluster's own interface makes of it
            reason = " ".join(str(mistake).split())
            raise ConfigError(
                f"the processes of this cluster cannot be found out ({type(mistake).__name__}: {reason}); give "
                "--coordinator, --num_processes and --process_id, or --num_processes=1 for a run of this process alone."
            ) from None
    address, num_processes, process_id, local = found
    if address is None or num_processes == 1:
        return None
    return Group(address, num_processes, process_id, _local_device_ids(local))


def _has_sign_of_cluster() -> bool:
    """Whether JAX may detect something; it takes a second to load, and warns in any pod of Kubernetes."""
    has = importlib.util.find_spec
    is_launched = bool({"SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri"} & os.environ.keys())
    is_indexed_job = "JOB_COMPLETION_INDEX" in os.environ and has("kubernetes") is not None
    return is_launched or is_indexed_job or has("libtpu") is not None


def _local_device_ids(detected: list[int] | None) -> list[int] | None:
    """The devices that this process takes of its host: one where the host has several processes, else all it sees.

    JAX takes one of each, by the process's number on its host, also where that host has but one process.
    """
    if os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        return [int(number) for number in os.environ["JAX_LOCAL_DEVICE_IDS"].split(",")]
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or "1"
    return None if re.fullmatch(r"1(\(x\d+\))?", tasks) else detected


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator={text} must be HOST:PORT, the host of process 0 and a free port there.")
    return host.strip("[]"), int(port)


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--{name}={text} must be a whole number, such as {2 if name == 'num_processes' else 0}.")
    return int(text)
