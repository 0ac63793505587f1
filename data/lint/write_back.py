"""A copy of the user's workbook that shows the findings: coloured cells, comments, and a summary sheet.

Every original cell keeps its value, a formula its formula and the value that it last had; styles and comments
stay. openpyxl reads and writes the copy, so what openpyxl does not know (charts, shapes, images of some kinds)
is not in it; `lost_parts` names that.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, MergedCell
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.worksheet.hyperlink import Hyperlink

from data.artefacts import partial_file
from data.errors import InputError, UsageError
from data.lint.cached_values import restore_cached_values
from data.lint.findings import SEVERITIES, Finding, Severity
from data.lint.lint import LintReport

_COLOURS: dict[Severity, str] = {"error": "FFFFC7CE", "warning": "FFFFEB9C", "info": "FFDDEBF7"}
_AUTHOR = "GroundTune"
_SUMMARY = "groundtune lint"
_HEADER = ("cell", "severity", "fault", "field", "what to do", "against", "text")
_WIDTHS = (10, 10, 22, 8, 80, 10, 60)
_MAX_SHEET_NAME = 31
# Characters that make a spreadsheet take a text for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_COMMENT_WIDTH, _LINE_HEIGHT, _CHARACTERS_A_LINE = 320, 18, 45
_UNKNOWN_PARTS = (
    "xl/charts/",
    "xl/chartsheets/",
    "xl/diagrams/",
    "xl/slicers/",
    "xl/threadedComments/",
    "xl/embeddings/",
)


def write_back(report: LintReport, out: Path) -> str:
    """Write the copy to `out`; returns the summary sheet's name.

    Raises:
        UsageError: `out` is the workbook itself, or not named .xlsx or .xlsm as the workbook is.
        InputError: the workbook is not of a kind that can be written, or `out` cannot be written.
    """
    path = report.table.path
    if out.exists() and out.samefile(path):
        raise UsageError(f"--write-back {out}: that is the workbook itself; name another file")
    if out.suffix.lower() != path.suffix.lower() or out.suffix.lower() not in (".xlsx", ".xlsm"):
        raise UsageError(
            f"--write-back {out}: an .xlsx workbook can be written back, to a file of the same kind (found {path.name})"
        )
    book = load_workbook(path, rich_text=True, keep_vba=path.suffix.lower() == ".xlsm")
    original_sheets = list(book.sheetnames)
    _mark(book[report.table.sheet], report.findings)
    summary = _free_name(book.sheetnames)
    _summarise(book.create_sheet(summary), report)
    try:
        with partial_file(out) as beside:
            book.save(beside)
            restore_cached_values(path, beside, original_sheets)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
    return summary


def lost_parts(path: Path) -> list[str]:
    """Return the kinds of content of a workbook that its copy will not have, as in `charts`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return [part.split("/")[1] for part in _UNKNOWN_PARTS if any(name.startswith(part) for name in names)]


def _mark(sheet: Any, findings: Iterable[Finding]) -> None:
    by_cell: dict[str, list[Finding]] = defaultdict(list)
    for item in findings:
        by_cell[item.cell].append(item)
    for name, items in by_cell.items():
        cell = sheet[name]
        if isinstance(cell, MergedCell):
            # Only the first cell of a merged range can carry a colour and a comment.
            cell = _first_of_merged(sheet, name)
        severity = min((item.severity for item in items), key=SEVERITIES.index)
        cell.fill = PatternFill("solid", fgColor=_COLOURS[severity])
        lines = "\n".join(f"{item.cell} {item.severity}: {item.message} [{item.kind}]" for item in items)
        cell.comment = _comment(cell.comment, ILLEGAL_CHARACTERS_RE.sub("", lines))


def _first_of_merged(sheet: Any, name: str) -> Any:
    (found,) = [area for area in sheet.merged_cells.ranges if name in area]
    return sheet.cell(found.min_row, found.min_col)


def _comment(existing: Any, text: str) -> Comment:
    author = _AUTHOR
    width, height = _COMMENT_WIDTH, 0
    if existing is not None:
        text = f"{existing.text}\n----\n{_AUTHOR}: {text}"
        author = existing.author or _AUTHOR
        width = max(width, int(existing.width))
    num_lines = sum(1 + len(line) // _CHARACTERS_A_LINE for line in text.split("\n"))
    height = min(max(80, _LINE_HEIGHT * (num_lines + 1)), 600)
    return Comment(text, author, width=width, height=height)


def _summarise(sheet: Any, report: LintReport) -> None:
    for column, width in zip("ABCDEFG", _WIDTHS, strict=True):
        sheet.column_dimensions[column].width = width
    counts = ", ".join(f"{number} {severity}" for severity, number in report.num_by_severity.items())
    _append(sheet, [f"Sheet {report.table.sheet}, {len(report.table.lines)} rows: {counts}"])
    sheet["A1"].font = Font(bold=True)
    _append(sheet, _HEADER)
    for cell in sheet[2]:
        cell.font = Font(bold=True)
    quoted = report.table.sheet.replace("'", "''")
    for number, item in enumerate(report.findings, start=3):
        _append(
            sheet, [item.cell, item.severity, item.kind, item.field, item.message, item.related, item.text]
        )
        sheet.cell(number, 2).fill = PatternFill("solid", fgColor=_COLOURS[item.severity])
        sheet.cell(number, 5).alignment = Alignment(wrap_text=True, vertical="top")
        link = sheet.cell(number, 1)
        link.hyperlink = Hyperlink(ref=link.coordinate, location=f"'{quoted}'!{item.cell}")
        link.style = "Hyperlink"
    sheet.freeze_panes = "A3"
    if report.findings:
        sheet.auto_filter.ref = f"A2:G{2 + len(report.findings)}"


def _append(sheet: Any, values: Sequence[str]) -> None:
    sheet.append([_as_text(value) for value in values])


def _as_text(value: str) -> str:
    """Return a value that no spreadsheet, and no CSV made of this sheet, takes for a formula."""
    text = ILLEGAL_CHARACTERS_RE.sub("", value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _free_name(names: Iterable[str]) -> str:
    taken = {name.casefold() for name in names}
    candidates = [_SUMMARY, *(f"{_SUMMARY} {number}" for number in range(2, len(taken) + 3))]
    return next(name for name in candidates if name.casefold() not in taken)[:_MAX_SHEET_NAME]
