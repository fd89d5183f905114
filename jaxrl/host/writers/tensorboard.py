"""Writes rows of metrics as TensorBoard scalars over env steps, into the run folder's tensorboard/."""

import os
import struct
import time
from pathlib import Path

from jaxrl.types import Writer

PATTERN = "events.out.tfevents.*"


def make(config, workdir: Path, env_steps: int | None) -> Writer:
    """A writer of TensorBoard event files.

    Each start of a run adds one file to the folder, as TensorBoard expects.

    Args:
        config: not read.
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
    events.flush()

    def write(row: dict) -> None:
        values = [Summary.Value(tag=key, simple_value=value) for key, value in row.items() if key != "env_steps"]
        events.write_event(Event(wall_time=time.time(), step=row["env_steps"], summary=Summary(value=values)))
        events.flush()

    return Writer(write, events.close)


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
