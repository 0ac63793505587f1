from __future__ import annotations

import pytest

from data.records import HeldOutQuestion
from rag.evaluation import evaluate
from rag.knowledge import KnowledgeIndex
from tests.rag.rows import COLD, ROWS


def test_rows_own_questions_are_all_found(knowledge: KnowledgeIndex) -> None:
    report = evaluate(knowledge, [HeldOutQuestion(row.question, row.row_id, row.answer, "") for row in ROWS])
    assert report.num_questions == 4
    assert report.num_unknown == 0
    assert set(report.stages) == {"dense", "lexical", "coverage", "fused"}
    assert report.stages["lexical"]["hit@1"].mean == report.stages["lexical"]["MRR"].mean == 1.0
    assert report.stages["fused"]["nDCG@10"].low == 1.0
    assert report.stages["dense"]["hit@5"].mean == 1.0


def test_misses_and_unanswerable_questions(knowledge: KnowledgeIndex) -> None:
    questions = [
        HeldOutQuestion(COLD.question, COLD.row_id, "", ""),
        HeldOutQuestion("高血压一天吃多少盐", COLD.row_id, "", ""),
        HeldOutQuestion(COLD.question, "0" * 12, "", ""),
        HeldOutQuestion("哪家医院好", "", "", ""),
    ]
    report = evaluate(knowledge, questions)
    assert report.num_questions == 3
    assert report.num_unknown == 1
    # Found first, not found by words at all, not in the index.
    assert report.stages["lexical"]["hit@1"].mean == pytest.approx(1 / 3)
    assert report.stages["lexical"]["MRR"].mean == pytest.approx(1 / 3)
    assert report.stages["dense"]["hit@5"].mean == pytest.approx(2 / 3)


def test_nothing_to_ask_is_an_error(knowledge: KnowledgeIndex) -> None:
    with pytest.raises(ValueError, match="no question"):
        evaluate(knowledge, [HeldOutQuestion("哪家医院好", "", "", "")])
