"""`groundtune bench tables`: write README's measured table and docs/benchmarks.md, or check that they are current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.tables.sections import SECTIONS, quickstart_table
from benchmarks.tables.shape import table
from data.artefacts import write_text
from data.errors import InputError

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- measured: written by `groundtune bench tables` -->"
END = "<!-- measured: end -->"


def tables(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a file is stale.")
    ] = False,
) -> None:
    """Write README's measured table and docs/benchmarks.md from benchmarks/results/*.json."""
    stale = []
    for path, text in rendered(ROOT).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            write_text(path, text)
    if check and stale:
        raise InputError(f"{', '.join(stale)}: not what the results say; run `groundtune bench tables`")
    print("up to date" if not stale else f"written: {', '.join(stale)}")


def rendered(root: Path) -> dict[Path, str]:
    """Return the text of each file that is made of the results under `root`."""
    results = _read(root / "benchmarks" / "results")
    page = root / "docs" / "benchmarks.md"
    readmes = [path for path in (root / "README.md", root / "README.zh.md") if path.is_file()]
    return {page: _page(results), **{path: _with_measured(path, results) for path in readmes}}


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for section in SECTIONS:
        path = folder / f"{section.file}.json"
        if path.is_file():
            found[section.file] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _with_measured(readme: Path, results: Mapping[str, Mapping[str, Any]]) -> str:
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return text
    lines = [
        (what, figure, f"[{section.file}](benchmarks/results/{section.file}.json)")
        for section in SECTIONS
        if section.file in results
        for what, figure in section.lines(results[section.file])
    ]
    parts = [quickstart_table(results["quickstart"])] if "quickstart" in results else []
    parts.append(table(("measured", "figure", "result and its command"), lines))
    return before + BEGIN + "\n" + "\n\n".join(parts) + "\n" + END + after


def _page(results: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        "# Measured",
        "Written by `groundtune bench tables` from benchmarks/results/*.json; edit those scripts, not this page.",
    ]
    for section in SECTIONS:
        if section.file not in results:
            continue
        result = results[section.file]
        parts.append(f"## {section.title}")
        parts.append(_conditions(result))
        parts.append(section.body(result))
        if (ROOT / "benchmarks" / "results" / f"{section.file}.png").is_file():
            parts.append(f"![{section.title}](../benchmarks/results/{section.file}.png)")
    return "\n\n".join(parts) + "\n"


def _conditions(result: Mapping[str, Any]) -> str:
    described = result.get("machine", result)
    hardware = described["hardware"]
    cores = hardware.get("num_cores", hardware.get("cores"))
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    command = f" `{result['command']}`." if "command" in result else ""
    return f"{described['date'][:10]}, {hardware['cpu']}, {cores} cores; {versions}.{command}"
