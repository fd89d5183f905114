"""The connection to a Ray cluster: found or refused in one line, with what Ray has to tell in a file."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import ray

from jaxrl.host.keys import clip, error

KNOCK_S = 10.0  # for an answer at an address, before Ray is asked to connect: it would try for minutes
LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data", "ray._private", "optuna")

# Ray Tune takes these by the environment alone.
TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a run writes its metrics itself
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver lets all runs save
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a run that ends early may have no evaluation to tell
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the sweep's folder knows how far it is
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "900",  # while a run saves
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints errors however quiet it is to be
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def connected(address: str, log: Path) -> Iterator[None]:
    """A connection to the cluster, closed in the end unless it was there before.

    Args:
        address: HOST:PORT; 'auto' for the cluster of this machine; 'local' starts one here, which ends with it; '' is
            what RAY_ADDRESS says, or auto.
        log: the file that takes what Ray says.

    Raises:
        ConfigError: there is no cluster.
    """
    with _variables(TUNE), quiet(log):
        if ray.is_initialized():
            yield
            return
        address = address or os.environ.get("RAY_ADDRESS") or "auto"
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, configure_logging=False)
        except Exception as mistake:  # ConnectionError, RuntimeError, ValueError: whatever Ray meets on the way
            cause = clip(" ".join(str(mistake).split()))
            raise error(f"--address={address} has no Ray cluster ({cause}); {CURE}") from None
        try:
            yield
        finally:
            ray.shutdown()


CURE = "start one by `ray start --head`, give --address=HOST:PORT, or --address=local to start one on this machine"


def check_room(cpus: float, gpus: float) -> int:
    """How many trials the cluster has room for at once.

    Raises:
        ConfigError: there is none on any machine, and a trial would wait for ever.
    """
    if not cpus and not gpus:
        raise error("--cpus_per_trial=0 and --gpus_per_trial=0 leave a trial nothing to run on; give some of one")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for flag, name, need in (("cpus", "CPU", cpus), ("gpus", "GPU", gpus)):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if need > most:
            raise error(
                f"--{flag}_per_trial={need:g} is more than any machine of the cluster has ({most:g} {name}); "
                f"give at most {most:g}, or add a machine to the cluster"
            )
    room = [min(node.get(name, 0.0) // need for name, need in (("CPU", cpus), ("GPU", gpus)) if need) for node in nodes]
    if not sum(room):
        raise error(
            f"--cpus_per_trial={cpus:g} and --gpus_per_trial={gpus:g} are on no one machine of the cluster together; "
            "give fewer of one"
        )
    return int(sum(room))


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Sends what Ray and Optuna log to a file, and nowhere else."""
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


def _knock(address):
    """ConfigError if nobody answers at HOST:PORT."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise error(f"--address={clip(address)} is none; give HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
    except (OSError, OverflowError) as mistake:
        raise error(f"--address={address} has no Ray cluster ({mistake}); {CURE}") from None


@contextlib.contextmanager
def _variables(values):
    """Environment variables, as they were in the end; what the user has set stays as it is."""
    fresh = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            del os.environ[name]
