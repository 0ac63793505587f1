from __future__ import annotations

import json

import pytest

from data.errors import InputError
from rag.filters import Parts, RowFilter
from rag.knowledge import KnowledgeIndex
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT, STOP
from tests.rag.test_cli import chosen, run  # noqa: F401


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (RowFilter(("高血压",)), {SALT, STOP}),
        (RowFilter(("高血压", "感冒")), {SALT, STOP, COLD}),
        (RowFilter((), ("饮食", "dose")), {SALT, ASPIRIN}),
        (RowFilter(("高血压",), ("用药",)), {STOP}),
        (RowFilter((" Ａspirin ",)), {ASPIRIN}),
        (RowFilter(), set(ROWS)),
    ],
)
def test_only_the_chosen_rows_are_found(
    knowledge: KnowledgeIndex, only: RowFilter, expected: set[object]
) -> None:
    for question in (SALT.question, "How much aspirin may I take?", "感冒了怎么办" * 20):
        hits = knowledge.search(question, only=only).hits
        assert {hit.row for hit in hits} == expected
        assert [hit.row for hit in knowledge.search(question, 1, only).hits] == [hits[0].row]


def test_a_filter_keeps_the_order_and_scores_of_the_rest(knowledge: KnowledgeIndex) -> None:
    whole = knowledge.search("高血压吃药").hits
    part = knowledge.search("高血压吃药", only=RowFilter(("高血压",))).hits
    assert [hit.row for hit in part] == [hit.row for hit in whole if hit.row in (SALT, STOP)]
    assert part[0].score == pytest.approx(
        next(hit.score for hit in whole if hit.row == part[0].row), abs=1e-3
    )


def test_values_that_no_row_has_are_named_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"info_1 '高血糖'.*高血压"):
        Parts(ROWS).part(RowFilter(("高血糖",)))
    with pytest.raises(InputError, match="together"):
        Parts(ROWS).part(RowFilter(("感冒",), ("饮食",)))
    assert Parts(ROWS).part(RowFilter()) is None


def test_search_takes_filters(chosen: list[str]) -> None:  # noqa: F811
    run("index", *chosen)
    found = json.loads(run("search", "盐", *chosen, "--info-1", "感冒", "--info-1", "aspirin", "--json")[0])
    assert {hit["info_1"] for hit in found["hits"]} == {"感冒", "aspirin"}
    with pytest.raises(InputError, match="info_2"):
        run("search", "盐", *chosen, "--info-2", "饮水")
