"""Writes rows of metrics as TensorBoard scalars over env steps, into the run folder's tensorboard/."""

import os
import struct
import time
from pathlib import Path

from jaxrl.host import keys, tracking
from jaxrl.types import Writer

PATTERN = "events.out.tfevents.*"
STEPS = ("env_steps", "global_step")  # each event has them as its step
METRICS = ("eval/episode_return", "rollout/episode_return")  # beside the hyperparameters


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer of TensorBoard event files.

    Each start of a run adds one file to the folder, as TensorBoard expects. It begins with the config, as the text
    `config` and as hyperparameters; then come the scalars of each row, and CleanRL's names for them.

    Args:
        config: of the run.
        workdir: the run folder.
        env_steps: None removes earlier event files; a number cuts them behind that step, and goes on.
    """
    # The event file itself, not SummaryWriter: that one hands events to a thread, and its flush does not wait for them.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    folder = workdir / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    earlier = sorted(folder.glob(PATTERN))
    for path in earlier:
        if env_steps is None:
            path.unlink()
        else:
            _cut(path, env_steps)
    # Names hold whole seconds only: the number keeps two quick starts apart, and in order.
    events = EventsWriter(str(folder / "events"), f".{len(earlier):04d}")
    if env_steps is not None:
        # The purge step, for a TensorBoard that is open and has read what was cut.
        start = SessionLog(status=SessionLog.START)
        events.write_event(Event(wall_time=time.time(), step=env_steps + 1, session_log=start))
    for summary in _about(config):
        events.write_event(Event(wall_time=time.time(), step=env_steps or 0, summary=summary))
    events.flush()

    def write(row: dict) -> None:
        scalars = tracking.with_aliases(row, config)
        values = [Summary.Value(tag=tag, simple_value=scalars[tag]) for tag in scalars if tag not in STEPS]
        events.write_event(Event(wall_time=time.time(), step=row["env_steps"], summary=Summary(value=values)))
        events.flush()

    return Writer(write, events.close)


def _about(config) -> list:
    """The config, as a text for people and as the hyperparameters by which TensorBoard's HPARAMS tab compares runs."""
    from tensorboardX import summary

    leaves = dict(keys.leaves(config))
    rows = [f"| {name} | {keys.show(value)} |".replace("\n", " ") for name, value in leaves.items()]
    text = "\n".join(["| key | value |", "|---|---|", *rows])
    plain = {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in leaves.items()
    }
    experiment, start, _ = summary.hparams(plain, dict.fromkeys(METRICS))
    return [summary.text("config", text), experiment, start]


def _cut(path: Path, env_steps: int) -> None:
    """Shortens an event file to its whole records up to and including env_steps.

    A record is its length (8 bytes, little-endian), a checksum (4), the event, a checksum (4): the TFRecord format,
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
    """
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    end = 0
    while len(data) >= end + 12:
        (size,) = struct.unpack_from("<Q", data, end)
        after = end + 12 + size + 4
        if after > len(data):
            break  # torn by a kill
        event = Event.FromString(data[end + 12 : end + 12 + size])
        # A purge mark of an earlier resume stands one step behind what it kept.
        if event.HasField("summary") and event.step > env_steps:
            break
        end = after
    os.truncate(path, end)
