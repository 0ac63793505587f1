"""What a workbook file may ask of the reader. A file beyond a limit is refused with its reason before, or as soon
as, the limit is met; nothing is read to its end first.

Excel's own limits are 1,048,576 rows, 16,384 columns and 32,767 characters a cell; the others leave room for any
workbook that a spreadsheet program wrote.
"""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError

MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384
MAX_CELL_CHARS = 32_767
# A .csv is not bound by Excel's cells; a longer field is a quote that was never closed.
MAX_CSV_FIELD_CHARS = 1_000_000

# Parts of an archive, and the bytes of the list of them.
MAX_PARTS = 20_000
MAX_DIRECTORY_BYTES = 4 << 20
# A part that unpacks to more than this may be at most so many times as large as it is packed: sheets of repeated
# short numbers reach 40, nothing but repetition passes 200 (deflate itself ends at 1032).
BIG_PART_BYTES = 32 << 20
MAX_EXPANSION = 200
MAX_PART_BYTES = 8 << 30
# The small parts (workbook, styles, relations) are held in memory.
MAX_SMALL_PART_BYTES = 64 << 20
# One row's XML; 16,384 cells of ordinary text stay below.
MAX_ROW_CHARS = 8 << 20
# A merged range fills so many columns at most.
MAX_MERGED_COLUMNS = 64
# An old .xls is held in memory; the format itself ends at 65,536 rows.
MAX_XLS_BYTES = 256 << 20


def beyond(
    path: Path, what: str, fix: str = "split the workbook, or delete what is not knowledge"
) -> InputError:
    """Return the error for a file that is beyond a limit."""
    return InputError(f"{path}: {what}; refused as unsafe to read. If the file is really yours: {fix}")
