from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.prompts import CHINESE
from data.records import Row
from rag.config import RetrieveSection
from rag.grounding import Grounder
from rag.selection import SPARE, Selection, TokenCounter, estimated_tokens, selection_of
from rag.stages import Hit
from tests.rag.rows import COLD, SALT, STOP, row
from tests.rag.test_grounding import FixedIndex, user

TWIN = row("高血压", "饮食", "血压高的人每天吃盐的上限", SALT.answer + "。", 9)


def hits(*rows: Row) -> list[Hit]:
    return [Hit(found, 0.9 - 0.1 * place, {"dense": place + 1}) for place, found in enumerate(rows)]


def chosen(selection: Selection, *rows: Row) -> list[Row]:
    return [hit.row for hit in selection.choose(hits(*rows), CHINESE.row_text).hits]


def test_a_row_that_says_the_same_gives_its_place_to_the_next() -> None:
    assert chosen(Selection(2, alike=0.9), SALT, TWIN, STOP) == [SALT, STOP]
    assert chosen(Selection(2, alike=0.9), TWIN, SALT, STOP) == [TWIN, STOP]
    assert chosen(Selection(2), SALT, TWIN, STOP) == [SALT, TWIN]


def test_a_row_over_the_budget_is_passed_over_for_a_shorter_one() -> None:
    long = row("感冒", "症状", "感冒有哪些症状", "鼻塞、流涕、打喷嚏、咽痛、低热。" * 20)
    texts = [len(CHINESE.row_text(found)) for found in (SALT, STOP)]
    selection = Selection(3, budget=sum(texts), count=len)
    assert chosen(selection, SALT, long, STOP) == [SALT, STOP]
    assert chosen(Selection(3, budget=sum(texts) - 1, count=len), SALT, STOP) == [SALT]


def test_the_best_row_is_shown_as_far_as_it_fits_in_whole_sentences() -> None:
    long = replace(SALT, answer="第一句话在这里。第二句话也在这里。第三句话不能放下了。")
    room = len(CHINESE.row_text(replace(long, answer="第一句话在这里。第二句话也在这里。第三句……")))
    found = Selection(3, budget=room, count=len).choose(hits(long, STOP), CHINESE.row_text)
    assert found.hits[0].row == long
    assert [shown.answer for shown in found.shown] == ["第一句话在这里。第二句话也在这里。……"]
    # Not one sentence fits: characters then.
    room = len(CHINESE.row_text(replace(long, answer="第一句……")))
    found = Selection(3, budget=room, count=len).choose(hits(long), CHINESE.row_text)
    assert found.shown[0].answer == "第一句……"


def test_what_is_shown_is_within_the_budget_by_the_models_own_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    count = TokenCounter(tmp_path / "tokenizer.json")
    assert count("三个字") == 3
    long = replace(COLD, answer="多喝温水，注意休息。" * 100)
    settings = RetrieveSection(context_tokens=200)
    found = selection_of(settings, tmp_path / "tokenizer.json").choose(hits(long, SALT), CHINESE.row_text)
    assert sum(count(CHINESE.row_text(shown)) for shown in found.shown) <= 200
    assert found.hits[0].row == long


def test_an_estimate_where_there_is_no_tokenizer() -> None:
    assert estimated_tokens("高血压") == 3
    assert estimated_tokens("aspirin 325 mg") == 5


def test_the_grounder_searches_for_spare_rows_and_cites_whole_ones() -> None:
    asked_for = []

    class Index(FixedIndex):
        def search(self, question, top_k, only=None):  # type: ignore[no-untyped-def]
            asked_for.append(top_k)
            return super().search(question, top_k, only)

    long = replace(SALT, answer="每天不超过5克。" * 40)
    selection = selection_of(RetrieveSection(top_k=2, context_tokens=150), None)
    grounding = Grounder(Index((long, TWIN, STOP)), selection=selection).ground([user("盐")])
    assert asked_for == [2 + SPARE]
    assert long in grounding.rows, "the row itself is whole, for citations"
    assert long.answer not in json.dumps([dict(m) for m in grounding.messages], ensure_ascii=False)


def test_of_two_that_may_be_meant_and_say_the_same_the_second_is_no_rival() -> None:
    selection = Selection(2, alike=0.9)
    grounding = Grounder(FixedIndex((SALT, TWIN, STOP), num_best=2), selection=selection).ground([user("盐")])
    assert grounding.rival is None
    assert set(grounding.rows) == {SALT, STOP}


@pytest.mark.parametrize("value", [0, 1.5])
def test_a_similarity_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match="max_similarity"):
        RetrieveSection(max_similarity=value)
