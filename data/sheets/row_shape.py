"""Reading rows that are alike many at a time: most rows of a knowledge sheet are the same columns of shared texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from data.sheets import limits
from data.sheets.shared_strings import SharedStrings

_SHARED_CELL = re.compile(r'<c r="([A-Z]{1,3})[0-9]+"((?: s="[0-9]+")? t="s")><v>[0-9]+</v></c>')
# The rows' numbers, and the texts of each.
AlikeRows = tuple[list[int], Iterable[list[str]]]

_VALUE_AND_END = re.compile(r"[0-9]+</v></c>")


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns of a row hold shared texts, with what styles; a pattern for its cells, and one for whole rows."""

    cells: re.Pattern[str]
    rows: re.Pattern[str]
    columns: tuple[int, ...]

    def rows_of(self, chunk: str, strings: SharedStrings) -> AlikeRows | None:
        """Return numbers and texts of a chunk's rows, or None if not all are of this shape and without fault."""
        if "hidden" in chunk or self.columns != tuple(range(len(self.columns))):
            return None
        found = self.rows.findall(chunk)
        if not found or len(found) != chunk.count("<row"):
            return None
        named, *values = zip(*found, strict=True)
        numbers = list(map(int, named))
        try:
            columns = [strings.pick(list(map(int, raw))) for raw in values]
        except IndexError:
            return None
        if max(numbers) > limits.MAX_ROWS or "" in columns[-1]:
            return None
        if any(max(map(len, texts)) > limits.MAX_CELL_CHARS for texts in columns):
            return None
        return numbers, map(list, zip(*columns, strict=True))


def shape_of(inner: str, number: int) -> Shape | None:
    """Return the shape of row `number`, given its inner XML; None if that is not plainly a list of shared texts."""
    found = _SHARED_CELL.findall(inner)
    columns = tuple(column_number(letters) for letters, _ in found)
    plain = "".join(f'<c r="{letters}{number}"{rest}><v>' for letters, rest in found)
    if not found or _VALUE_AND_END.sub("", inner) != plain or list(columns) != sorted(set(columns)):
        return None
    if columns[-1] >= limits.MAX_COLUMNS:
        return None
    cells = "".join(rf'<c r="{letters}[0-9]+"{rest}><v>([0-9]{{1,9}})</v></c>' for letters, rest in found)
    rows = rf'<row r="([0-9]{{1,9}})"(?: [^>]*[^/>])?>{cells}</row>'
    return Shape(re.compile(cells), re.compile(rows), columns)


def column_number(letters: str) -> int:
    """Return the 0-based column of its letters: A is 0, AA is 26."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number - 1
