"""Time and memory of `groundtune data convert` against the seed's script (pandas, openpyxl, iterrows), same workbook.

    python -m benchmarks.workbook                    1,000,000 rows, under var/bench/workbook
    python -m benchmarks.workbook --rows 20000       a small one, to try the script
    python -m benchmarks.workbook --from-result benchmarks/results/workbook.json     only draw the chart again

Both do the whole job from a fresh process: start Python, read the .xlsx, write the seed's JSON. Wall time and peak
resident memory are the kernel's own counts for each process (wait4). They run in turn, the order changes every
time; then the two files are compared byte by byte. The workbook is as Excel writes it: shared strings, categories
that repeat, questions and answers that do not; its text is put together from the sample workbook's rows.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import shutil
import statistics
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

# This process starts the measured ones: nothing large is imported here.
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT, run_measured

RESULT = ROOT / "benchmarks" / "results" / "workbook.json"
SAMPLE = ROOT / "data" / "知识库内容.xlsx"
METHODS = ("groundtune", "seed")
_PARTS = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    'spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/'
    'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/sharedStrings.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
    'Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://'
    'schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" '
    'r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
    'Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
}
_NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 if the two files are the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "workbook")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON; the chart lies beside it")
    parser.add_argument("--from-result", type=Path, help="draw the chart of a JSON made before")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.make:
        make_workbook(options.make, options.rows)
        return 0
    if options.from_result:
        draw(
            json.loads(options.from_result.read_text(encoding="utf-8")),
            options.from_result.with_suffix(".png"),
        )
        return 0
    return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Make the workbook, run both, write JSON and chart; returns the exit status."""
    folder: Path = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    book = folder / "knowledge.xlsx"
    this = (sys.executable, "-m", "benchmarks.workbook")
    run_measured((*this, "--make", str(book), "--rows", str(options.rows)), "making the workbook")
    outs = {method: folder / f"{method}.json" for method in METHODS}
    commands = {
        "groundtune": (
            *(sys.executable, "-m", "serving.cli", "data", "convert", str(book), str(outs["groundtune"])),
            *("--format", "json-array"),
        ),
        "seed": (
            *(sys.executable, str(ROOT / "benchmarks" / "seed_xlsx2jsonl.py")),
            *(str(book), str(outs["seed"])),
        ),
    }
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for number in range(options.repeats):
        for method in METHODS if number % 2 else METHODS[::-1]:
            os.sync()
            runs[method].append(run_measured(commands[method], f"{method}, run {number + 1}"))
    same = filecmp.cmp(outs["groundtune"], outs["seed"], shallow=False)
    figures = {method: summary(runs[method]) for method in METHODS}
    ours, seed = figures["groundtune"], figures["seed"]
    result: dict[str, Any] = {
        "what": "a workbook to the seed's JSON: groundtune data convert against the seed's script",
        "command": " ".join(["python -m benchmarks.workbook", *sys.argv[1:]]),
        **describe_machine(("pandas", "openpyxl")),
        "num_rows": options.rows,
        "workbook_bytes": book.stat().st_size,
        "json_bytes": outs["seed"].stat().st_size,
        "groundtune": ours,
        "seed": seed,
        "times_faster": round(seed["wall_s"] / ours["wall_s"], 1),
        "memory_ratio": round(ours["peak_rss_bytes"] / seed["peak_rss_bytes"], 4),
        "same_bytes": same,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    run_measured((*this, "--from-result", str(options.out)), "drawing")
    print(json.dumps(result, indent=2))
    shutil.rmtree(folder)
    return 0 if same else 1


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the medians, and every run."""
    return {
        "wall_s": statistics.median(item["wall_s"] for item in runs),
        "peak_rss_bytes": int(statistics.median(item["peak_rss_bytes"] for item in runs)),
        "runs": list(runs),
    }


def make_workbook(path: Path, num_rows: int) -> None:
    """Write `num_rows` rows below the header info_1, info_2, Q, A, as Excel does: each text once, by number."""
    from data.row_source import RowSource, read_rows

    rows = read_rows(RowSource(SAMPLE))
    chance = random.Random(1)
    names = sorted({name for row in rows for name in (row.info_1, row.info_2)})
    number_of = {name: 4 + place for place, name in enumerate(names)}
    picks = [(chance.choice(rows), chance.choice(rows)) for _ in range(997)]
    first = 4 + len(names)

    def texts() -> Iterator[str]:
        yield from ("info_1", "info_2", "Q", "A", *names)
        for number in range(num_rows):
            one, other = picks[number % len(picks)]
            yield f"{one.question}（{number}）"
            yield f"{one.answer[: 20 + number % 60]}{number}。{other.answer}"

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in _PARTS.items():
            archive.writestr(name, content)
        with archive.open("xl/sharedStrings.xml", "w", force_zip64=True) as part:
            part.write(f"<sst {_NAMESPACE}>".encode())
            for text in texts():
                part.write(f"<si><t>{escape(text)}</t></si>".encode())
            part.write(b"</sst>")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as part:
            part.write(f"<worksheet {_NAMESPACE}><sheetData>".encode())
            part.write(_row_xml(1, (0, 1, 2, 3)))
            for number in range(num_rows):
                one, _ = picks[number % len(picks)]
                own = first + 2 * number
                part.write(_row_xml(number + 2, (number_of[one.info_1], number_of[one.info_2], own, own + 1)))
            part.write(b"</sheetData></worksheet>")


def _row_xml(number: int, texts: Sequence[int]) -> bytes:
    cells = "".join(
        f'<c r="{letter}{number}" t="s"><v>{text}</v></c>' for letter, text in zip("ABCD", texts, strict=True)
    )
    return f'<row r="{number}">{cells}</row>'.encode()


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the two measures side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    labels = ["groundtune\ndata convert", "seed's script\n(pandas, iterrows)"]
    measures = (("wall_s", 1.0, "wall time (s)"), ("peak_rss_bytes", 1e9, "peak resident memory (GB)"))
    for place, (key, unit, title) in enumerate(measures, start=1):
        axes = figure.add_subplot(1, 2, place)
        bars = axes.bar(labels, [result[m][key] / unit for m in METHODS], color=["tab:blue", "tab:gray"])
        axes.bar_label(bars, fmt="%.2f")
        axes.set_title(title)
        axes.margins(y=0.15)
    figure.suptitle(f"{result['num_rows']:,} rows of a workbook to the seed's JSON, byte for byte the same")
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
