"""TensorBoard event files of a run. The only file that imports tensorboardX.

Written synchronously, an event a number, so that a killed run loses at most the last of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_FILES = "events.out.tfevents.*"


class EventFile:
    """One event file in `folder`, in the place of those that an earlier start of the same run left there.

    A resumed run tells of its earlier steps again, so their events are in the new file.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(_FILES):
            old.unlink()
        self._writer = EventsWriter(str(folder / "events"))

    def __enter__(self) -> EventFile:
        return self

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write one point of each named curve; a value of None is left out."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        points = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None
        ]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self._writer.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
