"""Opening the zip archive that a .xlsx is, without trusting what it says of itself."""

from __future__ import annotations

import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from data.errors import InputError
from data.sheets import limits

_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_LONGEST_COMMENT = 65_535
_BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 2
_WORTH_A_THREAD_BYTES = 8 << 20


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading.

    Raises:
        InputError: it is not a whole archive, or it is beyond a limit. Also for what fails while it is open.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                _check_part(path, item)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a whole .xlsx workbook ({error}); open it in Excel and save it again"
        ) from error
    except RuntimeError as error:
        # zipfile's way to say that a part wants a password.
        if "password" not in str(error):
            raise
        raise InputError(
            f"{path}: the archive is encrypted; save a copy without a password and give that"
        ) from error


def _check_directory(path: Path) -> None:
    """Refuse a list of parts that would take long to read; zipfile reads all of it at once."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_RECORD_BYTES - _LONGEST_COMMENT))
        tail = file.read()
    place = tail.rfind(_END_RECORD)
    if place < 0 or place + _END_RECORD_BYTES > len(tail):
        raise InputError(f"{path}: not a whole .xlsx workbook (it ends early); copy or download it again")
    num_parts = int.from_bytes(tail[place + 10 : place + 12], "little")
    num_bytes = int.from_bytes(tail[place + 12 : place + 16], "little")
    # 0xFFFFFFFF: the numbers stand in a record of the 64-bit kind; a workbook has no use for so long a list.
    if num_parts > limits.MAX_PARTS or num_bytes > limits.MAX_DIRECTORY_BYTES:
        raise limits.beyond(path, f"the archive lists {num_parts:,} parts ({num_bytes:,} bytes of names)")


def _check_part(path: Path, item: zipfile.ZipInfo) -> None:
    if item.file_size > limits.MAX_PART_BYTES:
        raise limits.beyond(path, f"{item.filename} unpacks to {item.file_size:,} bytes")
    if item.file_size > limits.BIG_PART_BYTES and item.file_size > limits.MAX_EXPANSION * item.compress_size:
        times = item.file_size // max(1, item.compress_size)
        raise limits.beyond(
            path,
            f"{item.filename} unpacks to {item.file_size:,} bytes, {times} times its packed size (a zip bomb?)",
        )


def blocks(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield a part's content, a block at a time; its checksum is checked at the end."""
    with archive.open(part) as file:
        if archive.getinfo(part).file_size < _WORTH_A_THREAD_BYTES:
            while block := file.read(_BLOCK_BYTES):
                yield block
            return
        # Unpacking needs no lock of the interpreter's: the next blocks are unpacked while this one is read.
        with ThreadPoolExecutor(1, "unpacking") as thread:
            ahead = deque(thread.submit(file.read, _BLOCK_BYTES) for _ in range(_BLOCKS_AHEAD))
            while block := ahead.popleft().result():
                ahead.append(thread.submit(file.read, _BLOCK_BYTES))
                yield block


def small_part(path: Path, archive: zipfile.ZipFile, part: str) -> Element | None:
    """Return the XML of one of the small parts, or None where there is no such part.

    Raises:
        InputError: it is too large or not XML, or it declares entities, which no spreadsheet program writes.
    """
    try:
        item = archive.getinfo(part)
    except KeyError:
        return None
    if item.file_size > limits.MAX_SMALL_PART_BYTES:
        raise limits.beyond(path, f"{part} unpacks to {item.file_size:,} bytes")
    try:
        element = fromstring(archive.read(item), forbid_dtd=True)
    except DefusedXmlException as error:
        raise declares(path, part) from error
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(
            f"{path}: {part} is damaged ({error}); open it in Excel and save it again"
        ) from error
    assert isinstance(element, Element)
    return element


def declares(path: Path, part: str) -> InputError:
    """Return the error for a part with a document type declaration, where entity bombs and outside files come in."""
    return limits.beyond(
        path,
        f"{part} has a document type declaration (DOCTYPE), which no spreadsheet program writes",
        "open it in Excel and save it again",
    )


def local_name(tag: str) -> str:
    """Return an XML name without its namespace, `{...}sheet` and `x:sheet` both as `sheet`."""
    return tag.rpartition("}")[2].rpartition(":")[2]
