"""Workbooks put together by hand, part by part, as no spreadsheet program would."""

from __future__ import annotations

import zipfile
from pathlib import Path

from data.sheets import Cell, open_workbook

_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"


def relations(*kinds_and_targets: tuple[str, str]) -> str:
    """Return a .rels part; ids are rId1, rId2, ..."""
    items = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(kinds_and_targets, start=1)
    )
    return f'<Relationships xmlns="{_RELATIONS}">{items}</Relationships>'


def package(
    path: Path,
    sheet: str | bytes,
    *,
    shared: str | None = None,
    styles: str | None = None,
    workbook: str | None = None,
    extra: dict[str, bytes] | None = None,
) -> Path:
    """Write a workbook of one sheet, `sheet` being its XML (a `<worksheet>` or what goes into `<sheetData>`)."""
    if isinstance(sheet, str) and not sheet.lstrip().startswith("<?xml") and "worksheet" not in sheet:
        sheet = f"<worksheet {_MAIN}><sheetData>{sheet}</sheetData></worksheet>"
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": workbook
        or f'<workbook {_MAIN} xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relations(
            ("worksheet", "worksheets/sheet1.xml"),
            ("sharedStrings", "sharedStrings.xml"),
            ("styles", "styles.xml"),
        ),
        "xl/worksheets/sheet1.xml": sheet,
    }
    if shared is not None:
        parts["xl/sharedStrings.xml"] = shared if "<sst" in shared else f"<sst {_MAIN}>{shared}</sst>"
    if styles is not None:
        parts["xl/styles.xml"] = f"<styleSheet {_MAIN}>{styles}</styleSheet>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**parts, **(extra or {})}.items():
            archive.writestr(name, content)
    return path


def read_cells(path: Path) -> dict[str, Cell]:
    """Return the cells of the first sheet by name."""
    with open_workbook(path) as book:
        return {cell.reference: cell for row in book.sheets[0].rows() for cell in row.cells()}


def texts(path: Path) -> dict[str, str]:
    """Return the texts of the first sheet by cell name."""
    return {name: cell.text for name, cell in read_cells(path).items()}
