"""What benchmarks.refusal measured: what is answered and what is refused."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.shape import Result, Section, table


def _of(found: dict[str, Any], name: str, kind: str) -> str:
    value = found.get(name, {})
    value = value.get(kind, {}) if kind else value
    return f"{value['value']:.3f}" if value else "–"


def _lines(result: Result) -> list[tuple[str, str]]:
    case = result["cases"]["sample"]
    told = ", ".join(
        f"{kind} {_of(case, 'auroc', kind)} / {_of(case, 'unanswerable_answered', kind)}"
        for kind in case["auroc"]
    )
    refused = _of(case, "answerable_refused", "")
    return [("refusal on the sample: AUROC / unanswerable answered", f"{told}; answerable refused {refused}")]


def _body(result: Result) -> str:
    rows = []
    for name, case in result["cases"].items():
        for kind in case["unanswerable_answered"]:
            rows.append(
                (
                    name,
                    case["num_questions"],
                    kind,
                    _of(case, "auroc", kind),
                    _of(case, "unanswerable_answered", kind),
                    _of(case, "answerable_refused", ""),
                )
            )
    head = ("rows", "questions", "unanswerable", "AUROC", "unanswerable answered", "answerable refused")
    commands = "\n\n".join(f"`{case['command']}`" for case in result["cases"].values())
    return (
        f"{table(head, rows)}\n\n{result['embedding']}, at the default rate. Without held-out questions the rows' own "
        f"are asked, which say nothing of what is refused. [refusal.md](refusal.md) says what it means.\n\n{commands}"
    )


REFUSAL_SECTION = Section("refusal", "Refusing", _lines, _body)
