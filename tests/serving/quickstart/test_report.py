"""The page and the table that a quickstart ends with."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from serving.quickstart.report import print_report, write_report


@pytest.fixture
def report() -> dict[str, Any]:
    """A report whose only answer cites one row twice and another once."""
    cited = [
        {
            "row_id": row,
            "title": f"title {row}",
            "url": f"http://h/{row}",
            "source": f"kb.xlsx#s!C{row}",
            "resolves": True,
        }
        for row in ("1", "2", "1")
    ]
    path = Path(__file__).parents[3] / "benchmarks" / "results" / "quickstart.json"
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    question = made["questions"][0]
    question["answers"] = {"base-rag": {**question["answers"]["base-rag"], "citations": cited}}
    return {**made, "questions": [question]}


def test_a_row_that_is_cited_twice_is_listed_once(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report, (tmp_path,))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("title 1<") == page.count("title 2<") == 1
    assert page.index("title 1<") < page.index("title 2<")
    # What was said is kept as it was.
    kept = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(kept["questions"][0]["answers"]["base-rag"]["citations"]) == 3
    shown = io.StringIO()
    print_report(report, Console(file=shown, width=160))
    assert shown.getvalue().count("title 1 (s!C1)") == shown.getvalue().count("title 2 (s!C2)") == 1
