from __future__ import annotations

from pathlib import Path

import pytest

from rag.lexical import LexicalStage, open_lexical, write_lexical
from rag.stages import Query
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT


@pytest.fixture
def stage(tmp_path: Path) -> LexicalStage:
    write_lexical(tmp_path / "lexical", ROWS, question_weight=3)
    return open_lexical(tmp_path / "lexical", [row.row_id for row in ROWS], gain=0.001)


def found(stage: LexicalStage, question: str, depth: int = 10) -> list[str]:
    return [ranked.row_id for ranked in stage.rank(Query(question, ()), depth)]


def test_rows_that_share_words_are_found_best_first(stage: LexicalStage) -> None:
    assert found(stage, "高血压一天吃多少盐")[0] == SALT.row_id
    assert found(stage, "发热要就医吗") == [COLD.row_id]
    assert found(stage, "ＡＳＰＩＲＩＮ?") == [ASPIRIN.row_id]


def test_scores_fall(stage: LexicalStage) -> None:
    scores = [ranked.score for ranked in stage.rank(Query("高血压", ()), 10)]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


def test_depth_limits(stage: LexicalStage) -> None:
    assert len(found(stage, "高血压 aspirin 感冒", depth=2)) == 2


def test_nothing_in_common_finds_nothing(stage: LexicalStage) -> None:
    assert found(stage, "北京天安门") == []
    assert found(stage, "？！") == []
    assert found(stage, "") == []


def test_nothing_in_the_folder_is_a_pickle(tmp_path: Path, stage: LexicalStage) -> None:
    names = {path.name for path in (tmp_path / "lexical").iterdir()}
    assert names
    assert all(name.endswith((".npz", ".json")) for name in names)
