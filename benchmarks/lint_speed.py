"""Times `groundtune data lint` on a sheet of any size, made of the pieces of a real one.

    python benchmarks/lint_speed.py WORKBOOK.xlsx [NUM_ROWS]

Each row's question joins the beginning of one question to the end of another, so that grams are as frequent as in
real text; prints the seconds of reading and of checking, and the findings by kind.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from openpyxl import Workbook

from data.lint.lint import lint_table
from data.lint.table import read_table
from data.row_source import RowSource, read_rows
from data.workbook import WorkbookChoice


def write_sheet(source: Path, num_rows: int, path: Path) -> None:
    rows = read_rows(RowSource(source))
    chance = random.Random(1)
    book = Workbook(write_only=True)
    sheet = book.create_sheet("S")
    sheet.append(["info_1", "info_2", "Q", "A"])
    for _ in range(num_rows):
        row, begin, end = (chance.choice(rows) for _ in range(3))
        head, tail = chance.randint(4, max(4, len(begin.question))), chance.randint(0, 4)
        sheet.append([row.info_1, row.info_2, begin.question[:head] + end.question[tail:], row.answer])
    book.save(path)


def main(source: Path, num_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.xlsx"
        write_sheet(source, num_rows, path)
        started = time.perf_counter()
        table = read_table(WorkbookChoice(path))
        read = time.perf_counter()
        report = lint_table(table)
        ended = time.perf_counter()
    result = {
        "num_rows": num_rows,
        "read_s": round(read - started, 1),
        "check_s": round(ended - read, 1),
        "by_kind": report.num_by_kind,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
