"""A lint report for a person's terminal and for a machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.lint.findings import Severity
from data.lint.lint import LintReport

_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "info": "cyan"}
_WIDE_COLUMNS = 110


def print_report(report: LintReport, console: Console, max_findings: int) -> None:
    """Print the findings, the first `max_findings` of them by cell, and their numbers."""
    if report.findings:
        with_text = console.width >= _WIDE_COLUMNS
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("cell", no_wrap=True)
        table.add_column("severity", no_wrap=True)
        table.add_column("what to do", overflow="fold")
        if with_text:
            table.add_column("text", overflow="ellipsis", no_wrap=True, max_width=console.width // 3)
        for item in report.findings[:max_findings]:
            message = Text.assemble(item.message, (f" [{item.kind}]", "dim"))
            cells = [Text(item.cell), Text(item.severity, style=_STYLES[item.severity]), message]
            table.add_row(*cells, *([Text(item.text)] if with_text else []))
        console.print(table)
        if len(report.findings) > max_findings:
            console.print(
                f"and {len(report.findings) - max_findings} more: --max 0 shows all of them", highlight=False
            )
        kinds = ", ".join(f"{number} {kind}" for kind, number in report.num_by_kind.items())
        console.print(Text(kinds, style="dim"))
    console.print(summary_line(report), highlight=False, markup=False, soft_wrap=True)


def summary_line(report: LintReport) -> str:
    """Return one line: the sheet, its rows, and the number of findings of each severity."""
    counts = report.num_by_severity
    found = ", ".join(
        f"{number} {severity}{'' if number == 1 or severity == 'info' else 's'}"
        for severity, number in counts.items()
    )
    where = f"{report.table.path.name}#{report.table.sheet}"
    return f"{where}: {len(report.table.lines)} rows, {found if report.findings else 'nothing found'}"


def as_json(report: LintReport) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "file": report.table.path.name,
        "sheet": report.table.sheet,
        "columns": dict(report.table.columns),
        "num_rows": len(report.table.lines),
        "num_findings": report.num_by_severity,
        "by_kind": report.num_by_kind,
        "findings": [asdict(item) for item in report.findings],
    }
