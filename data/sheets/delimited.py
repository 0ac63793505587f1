"""Reading .csv: the encoding and the delimiter are found out, not asked for.

UTF-8 with or without a byte order mark, UTF-16 with one, else GB18030 (which holds GBK and GB2312, what Chinese
Excel writes). Comma, semicolon, tab or bar.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.sheets import limits
from data.sheets.model import SheetFile, SheetRow, State

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t|，"
_BLOCK_BYTES = 1 << 20
_SAMPLE_CHARS = 64_000


def open_csv(path: Path, closing: ExitStack) -> SheetFile:
    """Open a .csv as a workbook of one sheet, named as Excel names it, by the file; nothing to close.

    Raises:
        InputError: it is not text in an encoding that is known here.
    """
    del closing
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE_CHARS)
    if "\x00" in sample:
        raise InputError(f"{path}: not a text file; save the sheet as .xlsx or as .csv and give that")
    return SheetFile("csv", (_CsvSheet(path, encoding, _delimiter(sample)),))


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    for encoding in ("utf-8", "gb18030"):
        if _decodes(path, encoding):
            return encoding
    raise InputError(f"{path}: neither UTF-8 nor GB18030 text; save it as .xlsx, or as .csv in UTF-8")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _delimiter(sample: str) -> str:
    """Return the delimiter that cuts the first lines into the same number of fields, at least two; else a comma."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        widths = []
        try:
            for fields in csv.reader(sample.splitlines(keepends=True)[:50], delimiter=delimiter):
                if fields:
                    widths.append(len(fields))
        except csv.Error:
            continue
        # The last line of the sample may be cut.
        widths = widths[:-1] if len(widths) > 2 else widths
        if not widths or widths[0] < 2:
            continue
        score = sum(width == widths[0] for width in widths) / len(widths) * min(widths[0], 4)
        if score > best_score:
            best, best_score = delimiter, score
    return best


@dataclass(frozen=True)
class _CsvSheet:
    path: Path
    encoding: str
    delimiter: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def state(self) -> State:
        return "visible"

    def rows(self) -> Iterator[SheetRow]:
        limit = csv.field_size_limit(limits.MAX_CSV_FIELD_CHARS)
        try:
            with self.path.open(encoding=self.encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter)
                # A row's number is the one that Excel shows: records counted, not lines.
                for number, fields in enumerate(reader, start=1):
                    if len(fields) > limits.MAX_COLUMNS:
                        raise limits.beyond(
                            self.path,
                            f"row {number} has {len(fields):,} fields",
                            "check its quotes and delimiters",
                        )
                    while fields and not fields[-1]:
                        fields.pop()
                    if fields:
                        yield SheetRow(number, fields, {}, False)
        except csv.Error as error:
            raise InputError(
                f"{self.path}: line {reader.line_num}: {error}; check for a quote that is never closed"
            ) from error
        finally:
            csv.field_size_limit(limit)
