"""The texts that a .xlsx keeps apart from its sheets, fetched by number.

A large workbook has millions of them, so they are written to an unnamed temporary file, in order, and read back
through a window: sheets refer to most texts in the order in which they are kept. What is asked for again and again
(a category's name) stays in memory.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from data.errors import InputError
from data.sheets import limits
from data.sheets.archive import blocks
from data.sheets.xml_text import TextScanner, element_text, plain_text

# Below this the texts are simply a list.
_IN_MEMORY_BYTES = 16 << 20
_WINDOW_BYTES = 1 << 20
_MOST_REPEATED = 20_000
_LONGEST_REPEATED_BYTES = 400

_PLAIN = re.compile(r"<t(?: xml:space=\"preserve\")?>([^<]*)</t>", re.ASCII)


class SharedStrings(Protocol):
    """The texts by number, from 0; IndexError where there is none."""

    def __getitem__(self, number: int) -> str: ...

    def close(self) -> None:
        """Let go of them."""


def read_shared_strings(path: Path, archive: zipfile.ZipFile, part: str) -> SharedStrings:
    """Return a part's texts, to be closed. One longer than a cell can be ends one character above that limit, so
    that the reader of the cell refuses it.

    Raises:
        InputError: the part is damaged or beyond a limit.
    """
    texts = _texts(path, archive, part)
    if archive.getinfo(part).file_size <= _IN_MEMORY_BYTES:
        return TextsInMemory(list(texts))
    return _TextsOnDisk(texts)


def _texts(path: Path, archive: zipfile.ZipFile, part: str) -> Iterator[str]:
    longest = limits.MAX_CELL_CHARS + 1
    for _, inner in TextScanner(path, part, "si", "sst").elements(blocks(archive, part)):
        found = _PLAIN.fullmatch(inner)
        text = plain_text(found[1]) if found else element_text(inner)
        yield text[:longest]


class TextsInMemory:
    """A few texts, in a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def close(self) -> None:
        """There is nothing to close."""


class _TextsOnDisk:
    def __init__(self, texts: Iterator[str]) -> None:
        self._offsets = array("Q", [0])
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the last reference to it)
        end = 0
        kept: list[bytes] = []
        kept_bytes = 0
        for text in texts:
            raw = text.encode("utf-8", "surrogatepass")
            kept.append(raw)
            end += len(raw)
            kept_bytes += len(raw)
            self._offsets.append(end)
            if kept_bytes >= _WINDOW_BYTES:
                self._write(kept)
                kept, kept_bytes = [], 0
        self._write(kept)
        self._file.flush()
        self._window = b""
        self._window_start = 0
        self._repeated: dict[int, str] = {}

    def _write(self, parts: list[bytes]) -> None:
        try:
            self._file.writelines(parts)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for the workbook's texts ({error}); free some, or set TMPDIR to a "
                "folder that has room"
            ) from error

    def __getitem__(self, number: int) -> str:
        if (text := self._repeated.get(number)) is not None:
            return text
        if number < 0 or number + 1 >= len(self._offsets):
            raise IndexError(number)
        start, end = self._offsets[number], self._offsets[number + 1]
        low = start - self._window_start
        if low >= 0 and end - self._window_start <= len(self._window):
            return self._window[low : end - self._window_start].decode("utf-8", "surrogatepass")
        if self._window and end <= self._window_start:
            # Behind the window: asked for again, so not what is read once and in order.
            return self._remember(number, start, end)
        self._file.seek(start)
        self._window = self._file.read(max(_WINDOW_BYTES, end - start))
        self._window_start = start
        return self._window[: end - start].decode("utf-8", "surrogatepass")

    def _remember(self, number: int, start: int, end: int) -> str:
        self._file.seek(start)
        text = self._file.read(end - start).decode("utf-8", "surrogatepass")
        if end - start <= _LONGEST_REPEATED_BYTES and len(self._repeated) < _MOST_REPEATED:
            self._repeated[number] = text
        return text

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
