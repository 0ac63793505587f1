from __future__ import annotations

from dataclasses import replace

import pytest

from data.records import Row
from rag.filters import RowFilter
from rag.follow_up import search_in_turn
from rag.stages import Hit, Search
from rag.subjects import Subjects
from tests.rag.rows import row

_SYMPTOMS = row("痛风", "症状", "痛风会有哪些症状", "关节红肿热痛。")
_DIET = row("痛风", "饮食", "痛风病人哪些东西不能吃", "少吃内脏，不喝啤酒。")
_OTHER = row("高脂血症", "饮食", "血脂高怎么吃", "少油。")
_BLANK = row("", "饮食", "饮食要注意什么", "清淡。")
_SUBJECTS = Subjects(frozenset({"痛风"}))


class _Index:
    """Finds the same rows for everything, and doubts them."""

    version = "1"

    def __init__(self, *rows: Row, is_verbatim: bool = False) -> None:
        hits = tuple(Hit(each, 0.9 - place / 100, {}) for place, each in enumerate(rows))
        self._found = Search(hits, {}, num_best=2, is_doubtful=True, is_verbatim=is_verbatim)
        self.asked: list[tuple[str, int]] = []

    def search(self, question: str, top_k: int, only: RowFilter | None = None) -> Search:
        self.asked.append((question, top_k))
        return replace(self._found, hits=self._found.hits[:top_k])


def _found(index: _Index, *asked: str, top_k: int = 2) -> tuple[list[Row], Search]:
    _, found = search_in_turn(index, asked, _SUBJECTS, top_k)
    return [hit.row for hit in found.hits], found


def test_a_follow_up_that_names_a_rows_cells_means_that_row() -> None:
    index = _Index(_OTHER, _BLANK, _SYMPTOMS, _DIET, is_verbatim=True)
    rows, found = _found(index, "痛风会有哪些症状", "那饮食方面呢？")
    assert index.asked == [("痛风 那饮食方面呢？", 20)]
    assert rows == [_DIET, _OTHER]
    assert (found.num_best, found.is_doubtful, found.is_verbatim) == (1, False, False)


def test_what_names_no_row_or_two_stays_as_it_was_found() -> None:
    rows, found = _found(_Index(_OTHER, _SYMPTOMS), "痛风会有哪些症状", "那能喝酒吗？")
    assert (rows, found.num_best, found.is_doubtful) == ([_OTHER, _SYMPTOMS], 2, True)
    twin = replace(_DIET, row_id="twin")
    rows, found = _found(_Index(_OTHER, _DIET, twin), "痛风会有哪些症状", "那饮食方面呢？")
    assert (rows, found.is_doubtful) == ([_DIET, twin], True)


@pytest.mark.parametrize("question", ["痛风的饮食要注意什么", "饮食要注意什么"])
def test_a_question_that_stands_alone_is_searched_as_it_is(question: str) -> None:
    index = _Index(_OTHER, _DIET)
    rows, found = _found(index, question, top_k=1)
    assert index.asked == [(question, 1)]
    assert (rows, found.is_doubtful) == ([_OTHER], True)
