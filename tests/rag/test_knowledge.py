from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.errors import InputError
from rag.config import IndexSection, RetrieveSection
from rag.index import build_index
from rag.knowledge import KnowledgeIndex, open_index
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT
from tests.rag.tiny_embedding import write_tiny_embedding


def test_a_rows_own_question_finds_it(knowledge: KnowledgeIndex) -> None:
    for row in ROWS:
        hit = knowledge.search(row.question, 1).hits[0]
        assert hit.row == row
        assert hit.ranks["lexical"] == 1


def test_hits_come_best_first_with_each_stages_rank(knowledge: KnowledgeIndex) -> None:
    found = knowledge.search("高血压一天吃多少盐", 4)
    assert found.hits[0].row == SALT
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert sorted(hit.ranks["dense"] for hit in found.hits) == [1, 2, 3, 4]
    assert set(found.timings_ms) == {"embed", "retrieve"}
    assert knowledge.stages == ("dense", "lexical", "coverage")


def test_more_rows_than_there_are_gives_all(knowledge: KnowledgeIndex) -> None:
    assert len(knowledge.search("盐", 50).hits) == knowledge.num_rows == 4


def test_a_blank_question_finds_nothing(knowledge: KnowledgeIndex) -> None:
    assert knowledge.search(" \n", 3).hits == ()


def test_rows_are_looked_up_by_id(knowledge: KnowledgeIndex) -> None:
    assert knowledge.row(COLD.row_id) == COLD
    assert knowledge.row("0" * 12) is None


def test_texts_are_embedded_as_questions_or_passages(knowledge: KnowledgeIndex) -> None:
    asked, passage = knowledge.embed(["盐"], "query")[0], knowledge.embed(["盐"], "passage")[0]
    assert len(asked) == 32
    assert isinstance(asked[0], float)
    assert sum(value * value for value in asked) == pytest.approx(1.0, abs=1e-4)
    assert asked != passage


def test_searches_in_many_threads_find_what_one_finds(knowledge: KnowledgeIndex) -> None:
    questions = [row.question for row in ROWS] * 10
    alone = [[hit.row.row_id for hit in knowledge.search(question, 3).hits] for question in questions]

    def search(question: str) -> list[str]:
        return [hit.row.row_id for hit in knowledge.search(question, 3).hits]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search, questions)) == alone


def test_fusion_by_ranks_and_weights_can_be_chosen(
    dataset: Path, tiny_embedding: Path, tmp_path: Path
) -> None:
    build_index(dataset, tiny_embedding, tmp_path / "index", IndexSection())
    by_ranks = open_index(tmp_path / "index", tiny_embedding, RetrieveSection(fusion="ranks"))
    assert by_ranks.search(COLD.question, 1).hits[0].score <= 1.0
    by_ranks.close()
    wording_only = open_index(
        tmp_path / "index", tiny_embedding, RetrieveSection(weights={"dense": 0.0, "lexical": 1.0})
    )
    assert wording_only.search("aspirin", 1).hits[0].row == ASPIRIN
    wording_only.close()


def test_faults_of_an_index_name_the_fix(dataset: Path, tiny_embedding: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index; run `groundtune rag index`"):
        open_index(tmp_path / "index", tiny_embedding)
    build_index(dataset, tiny_embedding, tmp_path / "index", IndexSection())
    other = write_tiny_embedding(tmp_path / "other", "盐", seed=8)
    with pytest.raises(InputError, match=r"another embedding model \(tiny\)"):
        open_index(tmp_path / "index", other)
    shutil.rmtree(tmp_path / "index" / "lexical")
    with pytest.raises(InputError, match="not whole"):
        open_index(tmp_path / "index", tiny_embedding)
