"""Putting back what formulas last gave: openpyxl writes a formula without its value.

A copy without values would read as blank to everything that does not calculate, `groundtune data prepare`
among it. The values are taken from the original's XML and put into the copy's, cell by cell.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# A formula cell as openpyxl writes it.
_CELL = re.compile(rb'<c r="([A-Z]+\d+)"([^>]*)>(<f[ />](?:(?!</c>).)*?)(?:<v ?/>|<v></v>)</c>', re.DOTALL)
_TYPE = re.compile(rb' t="[a-zA-Z]+"')


def restore_cached_values(original: Path, copy: Path, sheets: Sequence[str]) -> None:
    """Give the formulas of the sheets named, in `copy`, the values that they have in `original`."""
    values = {name: _cached_values(original, part) for name, part in _sheet_parts(original).items()}
    if not any(values.get(name) for name in sheets):
        return
    parts = {part: values[name] for name, part in _sheet_parts(copy).items() if values.get(name)}
    rewritten = copy.with_name(copy.name + ".values")
    with zipfile.ZipFile(copy) as old, zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename in parts:
                content = _filled(content, parts[item.filename])
            new.writestr(item, content)
    rewritten.replace(copy)


def _sheet_parts(path: Path) -> dict[str, str]:
    """Return the XML part of each sheet, by the sheet's name."""
    with zipfile.ZipFile(path) as archive:
        relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
        targets = {item.get("Id"): item.get("Target", "") for item in relations}
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    parts = {}
    for sheet in book.iter(f"{_MAIN}sheet"):
        target = targets.get(sheet.get(_RELATION), "")
        parts[sheet.get("name", "")] = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return parts


def _cached_values(path: Path, part: str) -> dict[str, tuple[str, str]]:
    """Return (type, value) of each formula cell that has a value, by the cell's name."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        if part not in archive.namelist():
            return {}
        with archive.open(part) as file:
            for _, cell in ElementTree.iterparse(file):
                if cell.tag != f"{_MAIN}c":
                    continue
                formula, value = cell.find(f"{_MAIN}f"), cell.find(f"{_MAIN}v")
                if formula is not None and value is not None and value.text:
                    found[cell.get("r", "")] = (cell.get("t", "n"), value.text)
                cell.clear()
    return found


def _filled(content: bytes, values: Mapping[str, tuple[str, str]]) -> bytes:
    def fill(match: re.Match[bytes]) -> bytes:
        name, attributes, formula = match.groups()
        known = values.get(name.decode())
        if known is None:
            return match[0]
        kind, value = known
        attributes = _TYPE.sub(b"", attributes) + f' t="{kind}"'.encode()
        return b'<c r="%s"%s>%s<v>%s</v></c>' % (name, attributes, formula, escape(value).encode())

    return _CELL.sub(fill, content)
