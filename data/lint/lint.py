"""All checks over one sheet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from openpyxl.utils import column_index_from_string
from openpyxl.utils.cell import coordinate_from_string

from data.lint.cell_checks import check_cells
from data.lint.column_checks import check_columns
from data.lint.findings import SEVERITIES, Finding, Severity
from data.lint.length_checks import check_lengths
from data.lint.question_checks import check_questions
from data.lint.table import Table

_CHECKS = (check_columns, check_cells, check_lengths, check_questions)


@dataclass(frozen=True)
class LintReport:
    """What was looked at and what was found, in the order of the sheet."""

    table: Table
    findings: tuple[Finding, ...]

    @property
    def num_by_severity(self) -> dict[Severity, int]:
        """The number of findings of each severity."""
        counts = Counter(item.severity for item in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    @property
    def num_by_kind(self) -> dict[str, int]:
        """The number of findings of each kind, the most frequent first."""
        return dict(Counter(item.kind for item in self.findings).most_common())


def lint_table(table: Table) -> LintReport:
    """Return every finding about a sheet, by row, then column, then severity."""
    found = [item for check in _CHECKS for item in check(table)]
    return LintReport(table, tuple(sorted(found, key=_place)))


def _place(item: Finding) -> tuple[int, int, int, str]:
    column, row = coordinate_from_string(item.cell)
    return row, column_index_from_string(column), SEVERITIES.index(item.severity), item.kind
