"""What lint found: one record a fault, in the words that every report uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

Kind = Literal[
    "blank-question",
    "blank-answer",
    "blank-info",
    "placeholder",
    "no-cached-value",
    "error-value",
    "mojibake",
    "control-character",
    "invisible-character",
    "markup",
    "outer-space",
    "label",
    "too-short",
    "too-long",
    "cut-off",
    "answer-is-question",
    "duplicate-question",
    "near-duplicate",
    "conflicting-answers",
    "ambiguous-questions",
    "constant-column",
    "blank-column",
]


@dataclass(frozen=True)
class Finding:
    """One fault of one cell.

    `cell` is where, as in `C17`; `field` what the cell is (info_1, info_2, Q, A); `text` the beginning of what
    stands there; `related` the other cell that it is a fault against, or "".
    """

    kind: Kind
    severity: Severity
    sheet: str
    cell: str
    field: str
    message: str
    text: str = ""
    related: str = ""
