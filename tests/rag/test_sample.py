"""The sample workbook with the real embedding model."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import write_records
from data.workbook import WorkbookChoice, read_workbook
from rag.config import IndexSection, RetrieveSection
from rag.evaluation import evaluate
from rag.index import build_index
from rag.knowledge import open_index
from tests.conftest import REPOSITORY


@pytest.mark.integration
def test_paraphrases_of_the_sample_find_their_rows(fetched_models: Path, tmp_path: Path) -> None:
    embedding = fetched_models / "multilingual-e5-small"
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
