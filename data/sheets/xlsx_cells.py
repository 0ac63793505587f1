"""One row's XML to texts and marks: what each `<c>` of a .xlsx sheet holds, as people see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.errors import InputError
from data.sheets import limits
from data.sheets.model import PLAIN, Kind, Mark, cell_name
from data.sheets.number_format import Formatter, general
from data.sheets.row_shape import AlikeRows, Shape, column_number, shape_of
from data.sheets.shared_strings import SharedStrings
from data.sheets.xml_text import attributes_of, element_text, plain_text, rewritten

_REFERENCE = re.compile(r"([A-Za-z]{1,7})([0-9]{1,7})")
_VALUE = re.compile(r"<v(?:\s[^>]*)?>([^<]*)</v>")
_INLINE = re.compile(r"<is(?:\s[^>]*)?>(.*)</is>", re.DOTALL)
_FORMULA = re.compile(r"<f[\s/>]")
# A row of more cells, or a sheet of more kinds of rows, is read cell by cell.
_WIDEST_SHAPE = 32
_MOST_SHAPES = 100
# Heads (column, style, type) that a sheet repeats; more would be somebody's malice.
_MOST_HEADS = 50_000

_MARKS: Mapping[tuple[Kind, bool, bool], Mark] = {
    (kind, formula, cached): Mark(kind, formula, cached)
    for kind in ("text", "number", "date", "boolean", "error")
    for formula in (False, True)
    for cached in (False, True)
}

# Column, cell type, and what shows a number of the cell's style.
Head = tuple[int, str, Formatter]


class CellReader:
    """Reads the cells of one sheet, row by row; it remembers the heads that it has seen."""

    def __init__(
        self,
        path: Path,
        part: str,
        sheet: str,
        strings: Callable[[], SharedStrings],
        formats: Sequence[Formatter],
    ) -> None:
        self._path = path
        self._part = part
        self._sheet = sheet
        self._get_strings = strings
        self._strings: SharedStrings | None = None
        self._formats = formats
        self._heads: dict[str, Head] = {}
        self._shape: Shape | None = None
        self._num_shapes = 0

    def read(self, number: int, attributes: str, inner: str) -> tuple[list[str], dict[int, Mark]]:
        """Return a row's texts by column, "" for a blank cell, and the marks of those that are not just text.

        Raises:
            InputError: the row is damaged, or a cell is beyond a limit.
        """
        if (shape := self._shape) is not None and (match := shape.cells.fullmatch(inner)) is not None:
            return self._of_shape(shape, match, number)
        num_cells = inner.count("<c")
        if num_cells > limits.MAX_COLUMNS:
            raise self._too_far(num_cells - 1)
        pieces = inner.split("<c ")
        if len(pieces) != num_cells + 1 or (pieces[0] and not pieces[0].isspace()):
            # `<c>`, or a line break in the tag: anything else than programs write.
            _, inner = rewritten(self._path, self._part, "row", attributes, inner)
            pieces = inner.split("<c ")
        texts: list[str] = []
        marks: dict[int, Mark] = {}
        suffix = f'{number}"'
        heads = self._heads
        num_shared = 0
        column = -1
        for piece in pieces[1:]:
            head, _, body = piece.partition(">")
            # The row's number out, so that a column's heads are alike.
            known = heads.get(head.replace(suffix, '"', 1)) if head.startswith('r="') else None
            column, kind, show = known or self._head(head, number, column + 1)
            if body.startswith("<v>") and body.endswith("</v></c>"):
                raw, formula = body[3:-8], False
                if "<" in raw:
                    raw, formula = self._raw(piece, body, number)
            elif not body or body == "</c>":
                continue
            else:
                raw, formula = self._raw(piece, body, number)
                if kind == "inlineStr":
                    inline = _INLINE.search(body)
                    raw = element_text(inline[1]) if inline else raw
            if kind == "s" and not formula:
                num_shared += 1
                text, mark = (self._shared(raw, number, column) if raw else ""), PLAIN
            else:
                text, mark = self._shown(kind, raw, formula, show)
            if len(text) > limits.MAX_CELL_CHARS:
                raise self._too_long(number, column)
            if text or mark.formula:
                gap = column - len(texts)
                if gap > 0:
                    texts.extend([""] * gap)
                if gap < 0:
                    texts[column] = text
                else:
                    texts.append(text)
                if mark is not PLAIN:
                    marks[column] = mark
        if (
            num_shared == len(pieces) - 1
            and 0 < num_shared <= _WIDEST_SHAPE
            and self._num_shapes < _MOST_SHAPES
        ):
            self._num_shapes += 1
            self._shape = shape_of(inner, number)
        return texts, marks

    def read_alike(self, chunk: str) -> AlikeRows | None:
        """Return numbers and texts of all rows of a chunk that are alike: shared texts only, like the last one read.

        None if some are not, or anything about them has to be told: `read` does, row by row.
        """
        if self._shape is None or self._strings is None:
            return None
        return self._shape.rows_of(chunk, self._strings)

    def _of_shape(self, shape: Shape, match: re.Match[str], number: int) -> tuple[list[str], dict[int, Mark]]:
        texts: list[str] = []
        for column, raw in zip(shape.columns, match.groups(), strict=True):
            text = self._shared(raw, number, column)
            if len(text) > limits.MAX_CELL_CHARS:
                raise self._too_long(number, column)
            if text:
                texts.extend([""] * (column - len(texts)))
                texts.append(text)
        return texts, {}

    def _head(self, head: str, number: int, next_column: int) -> Head:
        attributes = attributes_of(head.removesuffix("/"))
        if head.strip(" /") and not attributes:
            raise self._damaged(f"row {number}: a cell's tag reads <c {head[:80]}>")
        column = next_column
        if reference := attributes.get("r"):
            match = _REFERENCE.fullmatch(reference)
            if match is None:
                raise self._damaged(f"row {number}: a cell is called {reference[:40]!r}")
            column = column_number(match[1])
        if column >= limits.MAX_COLUMNS:
            raise self._too_far(column)
        style = attributes.get("s", "0")
        place = int(style) if style.isdecimal() else 0
        show = self._formats[place] if place < len(self._formats) else general
        made = (column, attributes.get("t", "n"), show)
        if reference and reference.endswith(str(number)) and len(self._heads) < _MOST_HEADS:
            key = head.replace(f'{number}"', '"', 1)
            if key.startswith(f'r="{reference.removesuffix(str(number))}"'):
                self._heads[key] = made
        return made

    def _raw(self, piece: str, body: str, number: int) -> tuple[str, bool]:
        """Return what `<v>` holds and whether the cell has a formula, for a cell of more than a value."""
        if not body.rstrip().endswith("</c>"):
            raise self._damaged(f"row {number}: <c {piece[:80]} has no end")
        value = _VALUE.search(body)
        return (value[1] if value else ""), _FORMULA.search(body) is not None

    def _shared(self, raw: str, number: int, column: int) -> str:
        if self._strings is None:
            self._strings = self._get_strings()
        try:
            place = int(raw)
            if place < 0:
                raise IndexError(place)
            return self._strings[place]
        except (ValueError, IndexError):
            raise self._damaged(
                f"cell {cell_name(number, column)} of {self._sheet!r} refers to text {raw[:20]!r}, which the workbook "
                "does not have"
            ) from None

    def _shown(self, kind: str, raw: str, formula: bool, show: Formatter) -> tuple[str, Mark]:
        if kind == "n":
            if not raw:
                return "", (_MARKS["text", True, False] if formula else PLAIN)
            text, what = show(raw.strip())
            return text, _MARKS[what, formula, True]
        text = raw if kind == "inlineStr" and not formula else plain_text(raw)
        if kind == "s":
            # A formula never refers to the shared texts; what stands there is no result.
            return "", _MARKS["text", True, False]
        what = "text"
        if kind == "b":
            text, what = ("TRUE" if raw.strip() in ("1", "true") else "FALSE"), "boolean"
        elif kind == "e":
            what = "error"
        elif kind == "d":
            text, what = text.replace("T", " ").removesuffix(" 00:00:00"), "date"
        if what == "text" and not formula:
            return text, PLAIN
        # A formula whose result is "" has t="str" and an empty <v>: that is a value.
        return text, _MARKS[what, formula, True]

    def _too_long(self, number: int, column: int) -> InputError:
        return limits.beyond(
            self._path,
            f"cell {cell_name(number, column)} of {self._sheet!r} holds more than the {limits.MAX_CELL_CHARS:,} "
            "characters that a cell can",
            "shorten the cell",
        )

    def _too_far(self, column: int) -> InputError:
        return limits.beyond(
            self._path,
            f"sheet {self._sheet!r} has a cell in column {column + 1:,}; Excel's last is {limits.MAX_COLUMNS:,} (XFD)",
            "save it from Excel again",
        )

    def _damaged(self, why: str) -> InputError:
        return InputError(
            f"{self._path}: {self._part} is damaged ({why}); open it in Excel and save it again"
        )
