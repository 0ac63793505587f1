"""Opening a workbook file by what it is, whatever its name says."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from data.errors import InputError
from data.sheets.delimited import open_csv
from data.sheets.model import SheetFile
from data.sheets.xls import open_xls
from data.sheets.xlsx import open_xlsx

_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_OLD_BIFF = (
    b"\x09\x00\x04\x00",
    b"\x09\x02\x06\x00",
    b"\x09\x04\x06\x00",
    b"\x09\x08\x10\x00",
    b"\x09\x08\x08\x00",
)
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_CSV_SUFFIXES = (".csv", ".tsv", ".txt")


@contextmanager
def open_workbook(path: Path) -> Iterator[SheetFile]:
    """Open a .xlsx, .xls or .csv; its sheets can be read while it is open.

    Raises:
        InputError: no such file, not a workbook, encrypted, damaged, or beyond a limit of `data.sheets.limits`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(8)
        encrypted = head == _OLE and _holds(file, _ENCRYPTED)
    if encrypted:
        raise InputError(f"{path}: the workbook is encrypted; save a copy without a password and give that")
    with ExitStack() as closing:
        if head.startswith(b"PK"):
            yield open_xlsx(path, closing)
        elif head == _OLE or head.startswith(_OLD_BIFF):
            yield open_xls(path, closing)
        elif path.suffix.lower() in _CSV_SUFFIXES and head:
            yield open_csv(path, closing)
        else:
            raise InputError(
                f"{path}: not an Excel workbook, whatever its name says; save it from Excel as .xlsx "
                "(.xls and .csv are read too)"
            )


def _holds(file: BinaryIO, what: bytes) -> bool:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(what) >= 0
