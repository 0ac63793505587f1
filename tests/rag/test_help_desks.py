"""Two help desks that nothing was learned from, with the real embedding model and the default settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.held_out import questions_from_file
from data.records import write_records
from data.workbook import WorkbookChoice, read_workbook
from rag.config import IndexSection, RetrieveSection
from rag.index import build_index
from rag.knowledge import open_index
from tests.conftest import REPOSITORY

_WORKBOOKS = REPOSITORY / "benchmarks" / "workbooks"


@pytest.mark.integration
@pytest.mark.parametrize("name", ["desk-en", "shop-zh"])
def test_the_defaults_answer_what_is_worded_alike_and_refuse_what_is_of_something_else(
    name: str, fetched_models: Path, tmp_path: Path
) -> None:
    embedding = fetched_models / "multilingual-e5-small-asked"
    knowledge = read_workbook(WorkbookChoice(_WORKBOOKS / f"{name}.xlsx"))
    near = questions_from_file(_WORKBOOKS / f"{name}.near.jsonl", knowledge.rows)
    far = questions_from_file(_WORKBOOKS / f"{name}.far.jsonl", knowledge.rows)
    assert len(knowledge.rows) == len(near) == len(far) == 40 and len(knowledge.unanswerable) == 15
    write_records(tmp_path / "dataset" / "rows.jsonl", knowledge.rows)
    build_index(tmp_path / "dataset", embedding, tmp_path / "index", IndexSection())
    opened = open_index(tmp_path / "index", embedding, RetrieveSection())
    asked = [(question.row_id, opened.search(question.question)) for question in near]
    hard = [(question.row_id, opened.search(question.question)) for question in far]
    others = [opened.search(question.question) for question in knowledge.unanswerable]
    opened.close()
    assert sum(found.hits[0].row.row_id == row_id for row_id, found in asked) >= 38
    assert sum(found.is_doubtful for _, found in asked) <= 8
    assert sum(row_id in [hit.row.row_id for hit in found.hits[:5]] for row_id, found in hard) >= 30
    assert sum(not found.is_doubtful for found in others) <= 1
    assert all(found.answerability is not None for found in others)
