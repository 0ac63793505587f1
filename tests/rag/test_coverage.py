from __future__ import annotations

from pathlib import Path

import pytest

from rag.coverage import CoverageStage, open_coverage, write_coverage
from rag.stages import Query
from tests.rag.rows import row

ROWS = [
    row("高血压", "饮食", "高血压能喝茶吗", "可以喝淡茶。"),
    row("高血压", "检查", "高血压重点检查项目是什么", "血压、心电图和肾功能。"),
    row("糖尿病", "饮食", "血糖高能吃西瓜吗", "少量。"),
    row("", "", "?", "没有字的问题。"),
]
STORY = (
    "我爸爸今年六十五岁，患高血压已经十多年了，平时都要喝药保持血压，上个月头晕过两次，"
    "您好，高血压重点仔细检查项目是什么"
)


@pytest.fixture
def stage(tmp_path: Path) -> CoverageStage:
    write_coverage(tmp_path / "coverage", ROWS)
    return open_coverage(tmp_path / "coverage", [row.row_id for row in ROWS], gain=0.1)


def test_the_question_that_a_story_says_comes_first(stage: CoverageStage) -> None:
    ranked = stage.rank(Query(STORY, []), 10)
    assert [found.row_id for found in ranked[:2]] == [ROWS[1].row_id, ROWS[0].row_id]
    assert 0.6 < ranked[0].score < 1
    assert ranked[0].score > 2 * ranked[1].score
    assert stage.rank(Query(STORY, []), 1) == ranked[:1]


def test_a_question_said_whole_scores_one(stage: CoverageStage) -> None:
    ranked = stage.rank(Query(f"{ROWS[0].question}。" + "今天天气很好我们出去走走。" * 5, []), 1)
    assert ranked[0].row_id == ROWS[0].row_id
    assert ranked[0].score == pytest.approx(1)


def test_a_message_as_short_as_a_question_is_not_ranked(stage: CoverageStage) -> None:
    assert stage.rank(Query("高血压能喝茶吗", []), 10) == []
    assert stage.rank(Query("", []), 10) == []


def test_a_longer_message_counts_for_more(stage: CoverageStage) -> None:
    shorter, longer = (stage.rank(Query("高血压能喝茶吗" + "请问一下" * times, []), 1)[0] for times in (2, 4))
    assert 0 < shorter.score < longer.score < 1


def test_no_shared_term_is_no_rank(stage: CoverageStage) -> None:
    assert (
        stage.rank(
            Query("please tell me where the nearest railway station might be and how to get there", []), 10
        )
        == []
    )
