"""The files that a running service writes: the log of requests, and what each key has used today."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

from data.artefacts import write_json
from serving.access.budgets import Budgets
from serving.access.keys import KeyRing
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Access
from serving.gateway.edge import Observer
from serving.settings import LogPlace

_LOG_BYTES = 50_000_000
_LOG_FILES = 5
_SAVE_S = 5.0


@contextlib.contextmanager
def request_log(place: LogPlace, folder: Path) -> Iterator[tuple[Observer, ...]]:
    """Yield the observer that writes the log, if there is to be one; its file is `folder`/requests.jsonl."""
    if place == "off":
        yield ()
    elif place == "stderr":
        yield (AccessLog(lambda line: print(line, file=sys.stderr, flush=True)),)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            folder / "requests.jsonl", maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8"
        )
        try:
            yield (AccessLog(lambda line: file.emit(_log_record(line))),)
        finally:
            file.close()


def _log_record(line: str) -> LogRecord:
    return makeLogRecord({"msg": line})


@contextlib.asynccontextmanager
async def opened_access(
    keys: Path | None, public_paths: tuple[str, ...], spent: Path
) -> AsyncIterator[Access | None]:
    """Yield the keys of the file and their budgets; None where there is no file.

    `spent` keeps what was used today, so that a restart gives nobody a second budget.

    Raises:
        InputError: the file of keys cannot be read.
    """
    if keys is None:
        yield None
        return
    budgets = Budgets(time.time, time.monotonic)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        budgets.restore(json.loads(spent.read_text(encoding="utf-8")))
    saving = asyncio.ensure_future(_keep_saving(budgets, spent))
    try:
        yield Access(KeyRing(keys, time.monotonic), budgets, public_paths)
    finally:
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        _saver(budgets, spent)()


async def _keep_saving(budgets: Budgets, path: Path) -> None:
    save = _saver(budgets, path)
    while True:
        await asyncio.sleep(_SAVE_S)
        save()


def _saver(budgets: Budgets, path: Path) -> Callable[[], None]:
    """Return what writes the budgets' state where it has changed since the last time."""
    written = None

    def save() -> None:
        nonlocal written
        snapshot = budgets.snapshot()
        if snapshot != (written or {}):
            try:
                write_json(path, snapshot)
                written = snapshot
            except OSError as error:
                print(f"{path}: cannot be written ({error.strerror})", file=sys.stderr)

    return save
