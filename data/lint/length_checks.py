"""Questions and answers that are very short or very long, by themselves or beside the rest of the sheet."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from data.lint.cell_checks import finding, is_text
from data.lint.findings import Finding
from data.lint.table import Table
from data.wording import num_cjk

# Lengths are in units: a CJK character is 1, a letter or digit of another script 0.5, the rest nothing; so that
# one rule fits Chinese and English. A median of fewer rows says little.
_MIN_ROWS = 8
_MIN_UNITS = 2.0
_QUESTION_MEDIAN_SHARE = 1 / 5
_ANSWER_MEDIAN_SHARE = 1 / 20
_LONG_FACTOR = 10.0
_LONG_QUESTION_UNITS = 100.0
_LONG_ANSWER_UNITS = 1_000.0
_TOO_LONG_QUESTION_UNITS = 500.0
_TOO_LONG_ANSWER_UNITS = 8_000.0


def units(text: str) -> float:
    """Return the length of a text in units."""
    return (sum(map(str.isalnum, text)) + num_cjk(text)) / 2


def check_lengths(table: Table) -> Iterator[Finding]:
    """Yield findings about the lengths of Q and A; blank cells and placeholders are left to others."""
    limits = (
        ("Q", _QUESTION_MEDIAN_SHARE, _LONG_QUESTION_UNITS, _TOO_LONG_QUESTION_UNITS),
        ("A", _ANSWER_MEDIAN_SHARE, _LONG_ANSWER_UNITS, _TOO_LONG_ANSWER_UNITS),
    )
    for field, share, long_units, too_long_units in limits:
        lengths = [units(line.cells[field]) for line in table.lines]
        filled = [length for length in lengths if length]
        median = statistics.median(filled) if len(filled) >= _MIN_ROWS else 0.0
        for line, length in zip(table.lines, lengths, strict=True):
            text = line.cells[field].strip()
            if not is_text(text):
                continue
            num = len(text)
            beside = f"; half of this sheet's have {median:.0f} units or more (a Chinese character 1, a letter 0.5)"
            if length < _MIN_UNITS:
                yield finding(table, line, field, "too-short", "warning", f"only {num} characters")
            elif length < median * share:
                yield finding(table, line, field, "too-short", "info", f"only {num} characters{beside}")
            elif length > too_long_units:
                yield finding(
                    table, line, field, "too-long", "warning", f"{num} characters; split it into several rows"
                )
            elif length > long_units and length > median * _LONG_FACTOR > 0:
                yield finding(table, line, field, "too-long", "info", f"{num} characters{beside}")
