"""When a running service takes up what the run has now: on SIGUSR1, and when the index's current version changes.

SIGUSR1, not SIGHUP: that one comes when a terminal is closed, and then the service ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import GroundTuneError
from serving.state import Reload, note_reload

if TYPE_CHECKING:
    from serving.service import Service

_POLL_S = 1.0


@dataclass(frozen=True)
class Source:
    """Where the next release comes from.

    Attributes:
        prepare: Reads the configuration and the run again.
        index_version: The version of the index that the run has now; asked once a second.
        follows_index: Whether a change of it is enough.
    """

    prepare: Callable[[], Service]
    index_version: Callable[[], str | None]
    follows_index: bool = True


async def reload_when_asked(
    source: Source, seen: str | None, run_folder: Path, take_up: Callable[[Service], Awaitable[None]]
) -> None:
    """Call `take_up` with what there is each time that it is asked for, one at a time, until cancelled.

    A failure is told and changes nothing: what was served goes on being served.
    """
    number = 0
    with _asked_by_signal() as asked:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await asked.wait()
            now = source.index_version() if source.follows_index else seen
            if not asked.is_set() and now == seen:
                continue
            asked.clear()
            seen, number = now, number + 1
            try:
                await take_up(await asyncio.to_thread(source.prepare))
            except (GroundTuneError, OSError, ValueError) as error:
                outcome = Reload(number, f"not reloaded, what was served before goes on: {error}", False)
            else:
                outcome = Reload(number, "reloaded", True)
            print(outcome.message, file=sys.stderr, flush=True)
            note_reload(run_folder, outcome)


@contextlib.contextmanager
def _asked_by_signal() -> Iterator[asyncio.Event]:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, asked.set)
    try:
        yield asked
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
