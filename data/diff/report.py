"""A diff for a person's terminal and for a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.diff.changes import CHANGE_KINDS, Change, ChangeKind, Diff
from data.diff.run_state import IndexWork, RunState
from data.records import Row

_STYLES: dict[ChangeKind, str] = {
    "added": "green", "removed": "red", "revised": "yellow", "reworded": "cyan", "rewritten": "magenta", "moved": "dim",
}  # fmt: skip
_SHOWN = 70


@dataclass(frozen=True)
class DiffReport:
    """A diff, what it means for an index, and for the models of a run when one was named."""

    diff: Diff
    index: IndexWork
    run: RunState | None

    @property
    def stale(self) -> list[Change]:
        """The changes whose old answer a tuned model of the run has learned and may still give."""
        if self.run is None:
            return []
        return [
            change
            for change in self.diff.changes
            if change.kind in ("revised", "rewritten", "removed") and self.run.has_learned(change.old)
        ]

    @property
    def unlearned(self) -> list[Row]:
        """The rows whose question or answer is new, so that no tuned model of the run has learned it."""
        return [change.row for change in self.diff.changes if change.kind not in ("removed", "moved")]


def print_report(report: DiffReport, console: Console, max_changes: int) -> None:
    """Print the changes and, in a line each, what they ask for."""
    changes = report.diff.changes
    stale = {id(change) for change in report.stale}
    if changes:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for header in ("change", "old", "new"):
            table.add_column(header, no_wrap=True)
        table.add_column("question", overflow="fold")
        for change in changes[:max_changes]:
            question = _short(change.row.question)
            if change.old and change.new and change.old.row_id != change.new.row_id:
                same_question = change.old.question == change.new.question
                names = [row.title if same_question else row.question for row in (change.old, change.new)]
                question = " → ".join(_short(name) for name in names)
            mark = " [old answer in the weights]" if id(change) in stale else ""
            table.add_row(
                Text(change.kind, style=_STYLES[change.kind]),
                *(Text(_cell(row)) for row in (change.old, change.new)),
                Text.assemble(question, (mark, "bold red")),
            )
        console.print(table)
        if len(changes) > max_changes:
            console.print(
                f"and {len(changes) - max_changes} more: --max 0 shows all of them", highlight=False
            )
    for line in summary_lines(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def summary_lines(report: DiffReport) -> list[str]:
    """Return what happened and what it asks for."""
    diff = report.diff
    counts = [f"{len(diff.of_kind(kind))} {kind}" for kind in CHANGE_KINDS if diff.of_kind(kind)]
    lines = [
        f"{diff.num_old} rows, now {diff.num_new}: {', '.join([*counts, f'{diff.num_unchanged} unchanged'])}"
    ]
    lines.append(f"index: {len(report.index.embed)} rows to embed, {len(report.index.drop)} to take out")
    if report.run is None:
        return lines
    name = report.run.name
    if report.run.weights == "none":
        lines.append(f"run {name}: no adapter, so no answer is in any weights")
    elif report.run.weights == "unknown":
        lines.append(
            f"run {name}: its dataset was prepared again after its adapter was trained; which answers the weights "
            "hold cannot be told"
        )
    else:
        where = "adapter and its merged model" if report.run.weights == "merged" else "adapter"
        lines.append(
            f"run {name}: its {where} learned {len(report.stale)} answers that are no longer so; "
            f"{len(report.unlearned)} rows are new to it"
        )
    return lines


def as_json(report: DiffReport) -> dict[str, Any]:
    """Return the report as a JSON object."""
    stale = {id(change) for change in report.stale}
    shown: dict[str, Any] = {
        "num_old": report.diff.num_old,
        "num_new": report.diff.num_new,
        "num_unchanged": report.diff.num_unchanged,
        "counts": {kind: len(report.diff.of_kind(kind)) for kind in CHANGE_KINDS},
        "changes": [
            {
                "kind": change.kind,
                "old": asdict(change.old) if change.old else None,
                "new": asdict(change.new) if change.new else None,
                "similarity": round(change.similarity, 4),
                **({"old_answer_in_weights": id(change) in stale} if report.run else {}),
            }
            for change in report.diff.changes
        ],
        "index": {"embed": [row.row_id for row in report.index.embed], "drop": list(report.index.drop)},
    }
    if report.run:
        shown["run"] = {
            "name": report.run.name,
            "weights": report.run.weights,
            "stale_row_ids": _ids(change.old for change in report.stale),
            "unlearned_row_ids": _ids(report.unlearned),
        }
    return shown


def _ids(rows: Any) -> Sequence[str]:
    return [row.row_id for row in rows if row is not None]


def _cell(row: Row | None) -> str:
    return row.source.rpartition("!")[2] if row else "-"


def _short(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _SHOWN else folded[: _SHOWN - 1] + "…"
