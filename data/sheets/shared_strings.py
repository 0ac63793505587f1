"""The texts that a .xlsx keeps apart from its sheets, fetched by number.

A large workbook has millions of them, so they are written to an unnamed temporary file, in order and in groups, and
the groups last used stay in memory: sheets refer to most texts in the order in which they are kept, and to some (a
category's name) again and again.
"""

from __future__ import annotations

import marshal
import os
import re
import tempfile
import zipfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from data.errors import InputError
from data.sheets import limits
from data.sheets.archive import blocks
from data.sheets.xml_text import TextScanner, element_text, plain_text

# Below this the texts are simply a list.
_IN_MEMORY_BYTES = 16 << 20
_GROUP = 128
_GROUPS_KEPT = 512
_WIDEST_WINDOW = 8

_PLAIN = re.compile(r"<si><t(?: xml:space=\"preserve\")?>([^<]*)</t></si>", re.ASCII)
_PLAIN_RUN = rb"(?:<si><t(?: xml:space=\"preserve\")?>[^<]*</t></si>){%d}"
_PLAIN_GROUP = re.compile(_PLAIN_RUN % _GROUP)


class SharedStrings(Protocol):
    """The texts by number, from 0; IndexError where there is none."""

    def __getitem__(self, number: int) -> str: ...

    def pick(self, numbers: Sequence[int]) -> list[str]:
        """Return the texts of several numbers, none of them negative."""

    def close(self) -> None:
        """Let go of them."""


def read_shared_strings(path: Path, archive: zipfile.ZipFile, part: str) -> SharedStrings:
    """Return a part's texts, to be closed. One longer than a cell can be ends one character above that limit, so
    that the reader of the cell refuses it.

    Raises:
        InputError: the part is damaged or beyond a limit. On disk, also when a damaged text is fetched.
    """
    scanner = TextScanner(path, part, "si", "sst")
    chunks = scanner.raw_chunks(blocks(archive, part))
    if archive.getinfo(part).file_size <= _IN_MEMORY_BYTES:
        return TextsInMemory([text for chunk in chunks for text in _texts(scanner, chunk)])
    return _TextsOnDisk(scanner, chunks)


def _texts(scanner: TextScanner, raw: bytes) -> list[str]:
    longest = limits.MAX_CELL_CHARS + 1
    chunk = scanner.decoded(raw)
    texts = _PLAIN.findall(chunk)
    if len(texts) != chunk.count("<si"):
        texts = [element_text(inner) for _, inner in scanner.split(chunk)]
    elif "&" in chunk or "_x" in chunk:
        texts = list(map(plain_text, texts))
    if len(chunk) >= longest:
        texts = [text if len(text) < longest else text[:longest] for text in texts]
    return texts


class TextsInMemory:
    """A few texts, in a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def pick(self, numbers: Sequence[int]) -> list[str]:
        return list(map(self._texts.__getitem__, numbers))

    def close(self) -> None:
        """There is nothing to close."""


class _TextsOnDisk:
    """Groups of texts in a file: as they stand in the part, where they are plain, and read when one is asked for."""

    def __init__(self, scanner: TextScanner, chunks: Iterator[bytes]) -> None:
        self._scanner = scanner
        self._offsets = array("Q", [0])
        self._is_raw = bytearray()
        self._waiting: list[str] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the last reference to it)
        for chunk in chunks:
            self._add(chunk)
        if self._waiting:
            self._write(marshal.dumps(self._waiting), is_raw=False)
        self._num_texts = _GROUP * (len(self._is_raw) - bool(self._waiting)) + len(self._waiting)
        self._file.flush()
        self._groups: OrderedDict[int, list[str]] = OrderedDict()

    def _add(self, chunk: bytes) -> None:
        place = 0
        if self._waiting:
            rest = re.match(_PLAIN_RUN % (_GROUP - len(self._waiting)), chunk)
            if rest is not None:
                self._add_texts(_texts(self._scanner, rest[0]))
                place = rest.end()
        if not self._waiting:
            while group := _PLAIN_GROUP.match(chunk, place):
                self._write(group[0], is_raw=True)
                place = group.end()
        self._add_texts(_texts(self._scanner, chunk[place:]))

    def _add_texts(self, texts: Sequence[str]) -> None:
        waiting = [*self._waiting, *texts]
        whole = len(waiting) - len(waiting) % _GROUP
        for first in range(0, whole, _GROUP):
            # Read back by this process only, from a file that has no name.
            self._write(marshal.dumps(waiting[first : first + _GROUP]), is_raw=False)
        self._waiting = waiting[whole:]

    def _write(self, raw: bytes, *, is_raw: bool) -> None:
        self._is_raw.append(is_raw)
        self._offsets.append(self._offsets[-1] + len(raw))
        try:
            self._file.write(raw)
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for the workbook's texts ({error}); free some, or set TMPDIR "
                "to a folder that has room"
            ) from error

    def __getitem__(self, number: int) -> str:
        place, within = divmod(number, _GROUP)
        group = self._groups.get(place)
        if group is None:
            group = self._read(place)
        return group[within]

    def pick(self, numbers: Sequence[int]) -> list[str]:
        low, high = min(numbers) // _GROUP, max(numbers) // _GROUP
        if (high - low) * _GROUP > _WIDEST_WINDOW * len(numbers):
            return [self[number] for number in numbers]
        # Close together: the groups that hold them as one list.
        window: list[str] = []
        for place in range(low, high + 1):
            window += self._groups.get(place) or self._read(place)
        first = low * _GROUP
        return [window[number - first] for number in numbers]

    def _read(self, place: int) -> list[str]:
        if not 0 <= place < len(self._offsets) - 1:
            raise IndexError(place * _GROUP)
        start = self._offsets[place]
        raw = os.pread(self._file.fileno(), self._offsets[place + 1] - start, start)
        group: list[str] = _texts(self._scanner, raw) if self._is_raw[place] else marshal.loads(raw)
        self._groups[place] = group
        if len(self._groups) > _GROUPS_KEPT:
            # The one that was read first, and the next if that one is in use all the time.
            oldest, kept = self._groups.popitem(last=False)
            if oldest == 0:
                self._groups[oldest] = kept
                self._groups.popitem(last=False)
        return group

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
