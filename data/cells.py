"""Writing text back to a spreadsheet so that it stays text.

A text that begins with `=`, `+`, `-` or `@` becomes a formula when a spreadsheet program reads it, and a formula
can call out of the workbook. A knowledge row is somebody else's text, so everything that GroundTune writes to a
sheet goes through here.
"""

from __future__ import annotations

import re
from typing import Any

# Also tab and carriage return: programs skip them and then see the sign behind.
_STARTS_A_FORMULA = re.compile(r"[=+\-@\t\r]")
# What XML 1.0 cannot hold or changes (a carriage return), and what a reader would take for such an escape.
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
# Half of a character; no file can hold it.
_SURROGATES = re.compile(r"[\ud800-\udfff]")
# Excel cuts, or refuses, a longer cell.
MAX_CELL_CHARS = 32_767


def starts_a_formula(text: str) -> bool:
    """Tell whether a spreadsheet program could take this text for a formula."""
    return _STARTS_A_FORMULA.match(text) is not None


def storable_text(text: str) -> str:
    """Return the text as a .xlsx file stores it: control characters as `_x0001_`, which Excel shows as themselves."""
    whole = _SURROGATES.sub("\ufffd", text)
    return _UNSTORABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", whole)


def set_literal(cell: Any, text: str) -> None:
    """Put text into an openpyxl cell as text, never as a formula; the cell's other formatting stays.

    Raises:
        ValueError: the text is longer than a cell can be (MAX_CELL_CHARS).
    """
    if len(text) > MAX_CELL_CHARS:
        raise ValueError(f"{len(text)} characters; a cell holds at most {MAX_CELL_CHARS}")
    cell.value = storable_text(text)
    cell.data_type = "s"
    if starts_a_formula(text):
        # The apostrophe that Excel shows before such a text; editing the cell keeps it text.
        cell.quotePrefix = True


def literal_csv(text: str) -> str:
    """Return the text for a .csv field: `'` before what would be a formula, since a .csv has no cell types."""
    return f"'{text}" if starts_a_formula(text) else text
