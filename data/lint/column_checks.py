"""Faults of a whole column, reported at its header."""

from __future__ import annotations

from collections.abc import Iterator

from data.lint.findings import Finding, Severity
from data.lint.table import Table
from data.records import normalised

# Fewer rows than this are alike by chance.
_MIN_ROWS = 5


def check_columns(table: Table) -> Iterator[Finding]:
    """Yield findings about columns that say the same in every row, or in most rows nothing."""
    if len(table.lines) < _MIN_ROWS:
        return
    for field, column in table.columns.items():
        texts = [line.cells[field] for line in table.lines]
        filled = [text for text in texts if text.strip()]
        place = f"{column}{table.header_row}"
        if len(filled) * 2 < len(texts) and field not in ("Q", "A"):
            message = f"{len(texts) - len(filled)} of {len(texts)} cells are blank; fill them or leave the column out"
            yield Finding("blank-column", "info", table.sheet, place, field, message)
        if len(filled) >= _MIN_ROWS and _all_same(filled):
            message = f"all {len(filled)} cells say the same; the column tells the rows apart in nothing"
            severity: Severity = "error" if field in ("Q", "A") else "info"
            yield Finding("constant-column", severity, table.sheet, place, field, message, filled[0][:60])


def _all_same(texts: list[str]) -> bool:
    first = normalised(texts[0])
    return all(text == texts[0] or normalised(text) == first for text in texts)
