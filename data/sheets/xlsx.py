"""Reading .xlsx (and .xlsm, .xltx) as a stream of rows: memory does not grow with the sheet."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from xml.etree.ElementTree import Element

from data.errors import InputError
from data.sheets import limits
from data.sheets.archive import blocks, local_name, opened_archive, small_part
from data.sheets.merged import Filler, Merge
from data.sheets.model import Mark, SheetFile, SheetRow, State
from data.sheets.number_format import Formatter, built_in_code, formatter, general
from data.sheets.row_shape import column_number
from data.sheets.shared_strings import SharedStrings, TextsInMemory, read_shared_strings
from data.sheets.xlsx_cells import CellReader
from data.sheets.xml_text import TextScanner

_ROW_NUMBER = re.compile(r"(?:^|\s)r=[\"']([0-9]{1,9})[\"']")
_HIDDEN = re.compile(r"\shidden=[\"'](?:1|true)[\"']")
_END_OF_ROWS = re.compile(rb"</(?:[\w.-]+:)?sheetData\s*>|<(?:[\w.-]+:)?sheetData(?:\s[^>]*)?/>")
_MERGE = re.compile(
    rb"<(?:[\w.-]+:)?mergeCell\s[^>]*?ref\s*=\s*[\"']([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})"
)
_NO_MARKS: Mapping[int, Mark] = {}
_STATES: dict[str, State] = {"hidden": "hidden", "veryHidden": "very hidden"}


def open_xlsx(path: Path, closing: ExitStack) -> SheetFile:
    """Open a workbook; `closing` closes it.

    Raises:
        InputError: it is not a whole workbook, or beyond a limit of `data.sheets.limits`.
    """
    archive = closing.enter_context(opened_archive(path))
    book_part, parts = _parts(path, archive)
    book = small_part(path, archive, book_part)
    if book is None:
        raise InputError(f"{path}: not an Excel workbook (.xlsx); save it as .xlsx from Excel")
    shared = _Shared(path, archive, _by_type(parts, "sharedStrings"), closing)
    from_1904 = any(
        local_name(item.tag) == "workbookPr" and item.get("date1904") in ("1", "true") for item in book.iter()
    )
    formats = _formats(small_part(path, archive, _by_type(parts, "styles")), from_1904)
    sheets = []
    for item in book.iter():
        if local_name(item.tag) != "sheet":
            continue
        kind, target = parts.get(_relation_id(item), ("", ""))
        if kind != "worksheet":
            # A chart or a macro has a tab of its own too.
            continue
        state = _STATES.get(item.get("state", ""), "visible")
        sheets.append(_XlsxSheet(path, archive, item.get("name", ""), state, target, shared, tuple(formats)))
    if not sheets:
        raise InputError(f"{path}: the workbook has no sheets; open it in Excel and save it again")
    return SheetFile("xlsx", tuple(sheets))


def _parts(path: Path, archive: zipfile.ZipFile) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return the workbook's part, and its relations: id to (kind, part)."""
    book_part = "xl/workbook.xml"
    for _, (kind, target) in _relations(path, archive, "").items():
        if kind == "officeDocument":
            book_part = target
    if book_part.endswith(".bin"):
        raise InputError(f"{path}: a binary workbook (.xlsb); save it as .xlsx and give that")
    return book_part, _relations(path, archive, book_part)


def _relations(path: Path, archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    folder, name = posixpath.split(part)
    listed = small_part(path, archive, posixpath.join(folder, "_rels", f"{name}.rels"))
    found = {}
    for item in [] if listed is None else listed:
        target = item.get("Target", "")
        if item.get("TargetMode") == "External":
            continue
        resolved = (
            target.lstrip("/")
            if target.startswith("/")
            else posixpath.normpath(posixpath.join(folder, target))
        )
        found[item.get("Id", "")] = (item.get("Type", "").rpartition("/")[2], resolved)
    return found


def _by_type(parts: dict[str, tuple[str, str]], kind: str) -> str:
    return next((target for its_kind, target in parts.values() if its_kind == kind), "")


def _relation_id(sheet: Element) -> str:
    return next((value for name, value in sheet.attrib.items() if name.endswith("}id")), "")


def _formats(styles: Element | None, from_1904: bool) -> list[Formatter]:
    """Return what shows a number, by the style number that cells name."""
    if styles is None:
        return []
    codes = {
        item.get("numFmtId", ""): item.get("formatCode", "General")
        for item in styles.iter()
        if local_name(item.tag) == "numFmt"
    }
    made: dict[str, Formatter] = {}
    found = []
    for group in styles:
        if local_name(group.tag) != "cellXfs":
            continue
        for style in group:
            number = style.get("numFmtId", "0")
            if number not in made:
                code = codes.get(number) or built_in_code(int(number) if number.isdecimal() else 0)
                made[number] = general if code in ("General", "@") else formatter(code, from_1904=from_1904)
            found.append(made[number])
    return found


class _Shared:
    """The workbook's shared texts, read when a cell first asks for one."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, part: str, closing: ExitStack) -> None:
        self._path = path
        self._archive = archive
        self._part = part
        self._closing = closing
        self._texts: SharedStrings | None = None

    def get(self) -> SharedStrings:
        if self._texts is None:
            if self._part and self._part in self._archive.namelist():
                self._texts = read_shared_strings(self._path, self._archive, self._part)
            else:
                self._texts = TextsInMemory(())
            self._closing.callback(self._texts.close)
        return self._texts


@dataclass(frozen=True)
class _XlsxSheet:
    path: Path
    archive: zipfile.ZipFile
    name: str
    state: State
    part: str
    shared: _Shared
    formats: Sequence[Formatter]

    def rows(self) -> Iterator[SheetRow]:
        if self.part not in self.archive.namelist():
            raise InputError(
                f"{self.path}: sheet {self.name!r} is missing from the file; save it from Excel again"
            )
        merges = self.merges
        filler = Filler(merges)
        reader = CellReader(self.path, self.part, self.name, self.shared.get, self.formats)
        scanner = TextScanner(self.path, self.part, "row", "sheetData")
        number = 0
        for chunk in scanner.chunks(blocks(self.archive, self.part)):
            if not merges and (alike := reader.read_alike(chunk)) is not None:
                numbers, all_texts = alike
                number = numbers[-1]
                parts = zip(numbers, all_texts, repeat(_NO_MARKS), repeat(False), strict=False)
                yield from map(tuple.__new__, repeat(SheetRow), parts)
                continue
            for attributes, inner in scanner.split(chunk):
                found = _ROW_NUMBER.search(attributes)
                number = int(found[1]) if found else number + 1
                if number > limits.MAX_ROWS:
                    raise limits.beyond(
                        self.path,
                        f"sheet {self.name!r} has a row {number:,}; Excel's last is {limits.MAX_ROWS:,}",
                    )
                texts, marks = reader.read(number, attributes, inner)
                filler.fill(number, texts, marks)
                if texts:
                    yield SheetRow(number, texts, marks, _HIDDEN.search(attributes) is not None)

    @cached_property
    def merges(self) -> list[Merge]:
        """Find the merged ranges, which the file lists behind its rows."""
        tail: list[bytes] = []
        before = b""
        for block in blocks(self.archive, self.part):
            if tail:
                tail.append(block)
                if sum(map(len, tail)) > limits.MAX_SMALL_PART_BYTES:
                    raise limits.beyond(self.path, f"{self.part} has over {len(tail)} MiB behind its rows")
                continue
            joined = before + block
            if b"sheetData" in joined and (found := _END_OF_ROWS.search(joined)):
                tail.append(joined[found.end() :])
            before = joined[-100:]
        corners = _MERGE.findall(b"".join(tail))
        return [
            Merge(int(top), int(bottom), column_number(left.decode()), column_number(right.decode()))
            for left, top, right, bottom in corners
        ]
