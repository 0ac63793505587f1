"""Hostile files are refused within stated limits: 2 s and 300 MB, start of Python included, with their reason."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data.workbook import WorkbookChoice, read_workbook
from tests.data.sheets.packages import package

MAX_SECONDS = 2.0
MAX_BYTES = 300 << 20
# A process's peak memory begins with that of the one that starts it, so a small one starts it.
_LAUNCHER = """
import json, resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    + "]>"
)


def repeated(path: Path, part: str, unit: bytes, times: int, before: bytes, after: bytes) -> Path:
    """Replace a part by one that repeats `unit`, written without holding it."""
    plain = path.with_name("plain.xlsx")
    package(plain, "<row r='1'/>", shared="<si><t>a</t></si>")
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if item.filename != part:
                new.writestr(item.filename, old.read(item))
        block = unit * max(1, (1 << 20) // len(unit))
        with new.open(part, "w", force_zip64=True) as file:
            file.write(before)
            for _ in range(times):
                file.write(block)
            file.write(after)
    return path


def zip_bomb(path: Path) -> Path:
    return repeated(
        path,
        "xl/worksheets/sheet1.xml",
        b"<row><c><v>1</v></c></row>",
        600,
        b"<worksheet><sheetData>",
        b"</sheetData></worksheet>",
    )


def shared_bomb(path: Path) -> Path:
    return repeated(path, "xl/sharedStrings.xml", b"A", 500, b"<sst><si><t>", b"</t></si></sst>")


def lying_bomb(path: Path) -> Path:
    """The archive says that the part is small."""
    zip_bomb(path)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02", 0, content.rfind(b"xl/worksheets/sheet1.xml"))
    struct.pack_into("<I", content, at + 24, 1000)
    path.write_bytes(content)
    return path


def entity_bomb_in_sheet(path: Path) -> Path:
    row = "<row r='1'><c r='A1' t='inlineStr'><is><t>&m;</t></is></c></row>"
    sheet = f"<?xml version='1.0'?>{_LAUGHS}<worksheet><sheetData>{row}</sheetData></worksheet>"
    return package(path, sheet)


def entity_bomb_in_workbook(path: Path) -> Path:
    return package(path, "<row r='1'/>", workbook=f"<?xml version='1.0'?>{_LAUGHS}<workbook>&m;</workbook>")


def external_entity(path: Path) -> Path:
    shared = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><sst><si><t>&e;</t></si></sst>"
    return package(path, "<row r='1'><c r='A1' t='s'><v>0</v></c></row>", shared=shared)


def million_columns(path: Path) -> Path:
    cells = "".join("<c><v>1</v></c>" for _ in range(1_000_000))
    return package(path, f"<row r='1'>{cells}</row>")


def many_columns(path: Path) -> Path:
    cells = "".join("<c><v>1</v></c>" for _ in range(100_000))
    return package(path, f"<row r='1'>{cells}</row>")


def million_fields(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("Q,A" + ",x" * 1_000_000 + "\n")
    return path


def far_column(path: Path) -> Path:
    return package(path, "<row r='1'><c r='ZZZZZZZ1'><v>1</v></c></row>")


def long_cell(path: Path) -> Path:
    return package(path, f"<row r='1'><c r='B1' t='inlineStr'><is><t>{'长' * 1_000_000}</t></is></c></row>")


def endless_row(path: Path) -> Path:
    chance = os.urandom(20 << 20).hex()
    return package(path, f"<row r='1'><c r='B1' t='inlineStr'><is><t>{chance}</t></is></c>")


def many_parts(path: Path) -> Path:
    return package(path, "<row r='1'/>", extra={f"xl/media/{n}": b"" for n in range(30_000)})


def endless_quote(path: Path) -> Path:
    path = path.with_suffix(".csv")
    path.write_text('Q,A\nq,"' + "a" * (50 << 20))
    return path


def merged_over_everything(path: Path) -> Path:
    ranges = "".join('<mergeCell ref="A1:XFD1048576"/>' for _ in range(20_000))
    return package(
        path,
        "<worksheet><sheetData><row r='1'><c r='A1'><v>1</v></c></row>"
        "<row r='2'><c r='B2'><v>1</v></c></row></sheetData>"
        f"<mergeCells>{ranges}</mergeCells></worksheet>",
    )


HOSTILE: dict[Callable[[Path], Path], str] = {
    zip_bomb: "zip bomb",
    shared_bomb: "zip bomb",
    lying_bomb: "not a whole|zip bomb|damaged",
    entity_bomb_in_sheet: "DOCTYPE",
    entity_bomb_in_workbook: "DOCTYPE",
    external_entity: "DOCTYPE",
    million_columns: "16,384|over [0-9,]+ characters",
    many_columns: "column 100,000",
    million_fields: "1,000,002 fields",
    far_column: "16,384",
    long_cell: "B1.*32,767|32,767.*B1|B1",
    endless_row: "damaged|characters",
    many_parts: "parts",
    endless_quote: "quote",
    merged_over_everything: "merged|header|columns|Q and A",
}


@pytest.mark.parametrize(("make", "reason"), HOSTILE.items(), ids=[make.__name__ for make in HOSTILE])
def test_a_hostile_file_is_refused_in_time_and_memory(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    path = make(tmp_path / "k.xlsx")
    command = [sys.executable, "-m", "serving.cli", "data", "lint", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    status, cpu_s, peak_kib = json.loads(done.stdout.splitlines()[-1])
    assert status == 1, done.stderr
    assert re.search(reason, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert cpu_s < MAX_SECONDS
    assert peak_kib * 1024 < MAX_BYTES


def test_a_cell_as_long_as_excel_allows_is_read(tmp_path: Path) -> None:
    answer = "长" * 32_767
    sheet = (
        "<row r='1'><c r='A1' t='inlineStr'><is><t>Q</t></is></c><c r='B1' t='inlineStr'><is><t>A</t></is></c></row>"
        f"<row r='2'><c r='A2'><v>1</v></c><c r='B2' t='inlineStr'><is><t>{answer}</t></is></c></row>"
    )
    (row,) = read_workbook(WorkbookChoice(package(tmp_path / "k.xlsx", sheet))).rows
    assert row.answer == answer
