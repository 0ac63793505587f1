"""The sample workbook with the real embedding model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from data.records import write_records
from data.workbook import WorkbookChoice, read_workbook
from rag.config import IndexSection, RetrieveSection
from rag.evaluation import evaluate
from rag.filters import RowFilter
from rag.follow_up import search_in_turn
from rag.index import build_index
from rag.knowledge import open_index
from rag.refusal_report import measure_refusal
from rag.subjects import subjects_of
from tests.conftest import REPOSITORY


@pytest.mark.integration
def test_paraphrases_of_the_sample_find_their_rows(fetched_models: Path, tmp_path: Path) -> None:
    embedding = fetched_models / "multilingual-e5-small-asked"
    knowledge = read_workbook(WorkbookChoice(REPOSITORY / "data" / "知识库内容.xlsx"))
    write_records(tmp_path / "dataset" / "rows.jsonl", knowledge.rows)
    build_index(tmp_path / "dataset", embedding, tmp_path / "index", IndexSection())
    opened = open_index(tmp_path / "index", embedding)
    report = evaluate(opened, knowledge.paraphrases)
    opened.close()
    assert report.num_unknown == 0
    assert report.stages["fused"]["hit@1"].mean > 0.82
    assert report.stages["fused"]["hit@3"].mean > 0.92
    assert (
        report.stages["fused"]["MRR"].mean
        > report.stages["dense"]["MRR"].mean
        > report.stages["lexical"]["MRR"].mean
    )

    by_ranks = open_index(tmp_path / "index", embedding, RetrieveSection(fusion="ranks"))
    assert (
        evaluate(by_ranks, knowledge.paraphrases).stages["fused"]["MRR"].mean
        < report.stages["fused"]["MRR"].mean
    )
    by_ranks.close()


@pytest.mark.integration
def test_the_sample_is_refused_quoted_filtered_and_followed_up(fetched_models: Path, tmp_path: Path) -> None:
    embedding = fetched_models / "multilingual-e5-small-asked"
    knowledge = read_workbook(WorkbookChoice(REPOSITORY / "data" / "知识库内容.xlsx"))
    write_records(tmp_path / "dataset" / "rows.jsonl", knowledge.rows)
    build_index(tmp_path / "dataset", embedding, tmp_path / "index", IndexSection())
    settings = RetrieveSection(verbatim=True)
    opened = open_index(tmp_path / "index", embedding, settings)
    report = measure_refusal(opened, knowledge.paraphrases, knowledge.unanswerable, [0.085])
    assert report.auroc["unanswerable"] > 0.93
    assert report.auroc["topic left out"] > 0.92
    assert report.auroc["row left out"] > 0.84
    (at,) = report.at_rates
    assert at.answered["topic left out"] < 0.12
    assert at.answered["unanswerable"] < 0.12
    assert at.refused < 0.17

    subjects = subjects_of(opened.rows)
    for row in opened.rows[::8]:
        found = opened.search(row.question)
        assert (found.hits[0].row, found.is_verbatim, found.is_doubtful) == (row, True, False)
        only = opened.search("怎么办", only=RowFilter((row.info_1,)))
        assert {hit.row.info_1 for hit in only.hits} == {row.info_1}
    quoted = [(opened.search(each.question), each.row_id) for each in knowledge.paraphrases]
    wrong = [row_id for found, row_id in quoted if found.is_verbatim and found.hits[0].row.row_id != row_id]
    assert len(wrong) <= 0.02 * len(quoted)

    _, found = search_in_turn(opened, ["高血压会有哪些症状", "那饮食方面呢？"], subjects, 1)
    assert [(hit.row.info_1, hit.row.info_2) for hit in found.hits] == [("高血压", "饮食")]
    assert not found.is_doubtful
    asked = meant = refused = 0
    for before, row in pairwise(opened.rows):
        if before.info_1 == row.info_1:
            _, found = search_in_turn(opened, [before.question, f"那{row.info_2}方面呢？"], subjects, 1)
            asked += 1
            meant += (found.hits[0].row.info_1, found.hits[0].row.info_2) == (row.info_1, row.info_2)
            refused += found.is_doubtful
    assert meant >= 0.95 * asked > 100
    assert refused <= 0.07 * asked
    opened.close()
