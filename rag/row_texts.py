"""A row as text: what is embedded of it, and what stands in Chroma."""

from __future__ import annotations

from data.records import Row


def row_title(row: Row) -> str:
    """Return the text of the `question` view: info_1, info_2 and Q."""
    return " ".join(part for part in (row.info_1, row.info_2, row.question) if part)


def row_text(row: Row) -> str:
    """Return all of a row as one text: the `row` view, and the row's document in Chroma."""
    return f"{row_title(row)}\n{row.answer}"
