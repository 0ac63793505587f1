"""What is trained on as `tuned-rag` is asked is what `tuned-rag` is asked."""

from __future__ import annotations

import random

from data.grounded import grounded_conversations
from data.prompts import without_footnotes
from data.records import Row
from rag.grounding import Grounder
from rag.row_texts import row_text
from tests.rag.rows import ROWS, row
from tests.rag.test_grounding import FixedIndex, user

SYSTEM = "你是医生。"


def shown_in(system: str, among: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(each for each in among if without_footnotes(each.answer) in system)


def test_a_conversation_is_word_for_word_what_the_engine_is_asked() -> None:
    made = grounded_conversations(ROWS, ROWS, SYSTEM, seed=1)
    assert [one.row_id for one in made] == [each.row_id for each in ROWS]
    for one, right in zip(made, ROWS, strict=True):
        shown = shown_in(one.system, ROWS)
        assert right in shown and len(shown) == 3
        # The right one is the best; the grounder puts the rest into the order of the ids.
        found = (right, *(each for each in shown if each != right))
        messages = Grounder(FixedIndex(found), system_prompt=SYSTEM).ground([user(right.question)]).messages
        assert [one.system, one.input] == [message["content"] for message in messages]
        assert one.output == without_footnotes(right.answer)


def test_others_shown_are_those_that_a_search_would_find_and_never_say_the_same() -> None:
    rng = random.Random(5)
    words = ["血压", "血糖", "痛风", "感冒", "失眠", "胃炎", "贫血", "哮喘"]
    rows = tuple(
        row(word, "", f"{word}要注意{rng.choice('甲乙丙丁戊己')}{place}吗", f"{word}的答案{place % 9}。")
        for word in words
        for place in range(12)
    )
    made = grounded_conversations(rows, rows, "", seed=1)
    near = 0
    for one, right in zip(made, rows, strict=True):
        shown = [each for each in rows if f"\n问：{each.question}\n" in one.system]
        assert len({each.answer for each in shown}) == len(shown) == 3
        near += sum(each.info_1 == right.info_1 for each in shown if each != right)
    # One in eight by chance.
    assert near > 0.7 * 2 * len(rows)
    assert made == grounded_conversations(rows, rows, "", seed=1)


def test_a_row_too_long_for_a_prompt_has_none_and_is_not_shown_in_others() -> None:
    long = row("病", "", "长问题", "很长" * 400)
    rows = (*ROWS, long)
    made = grounded_conversations(rows, rows, "", seed=1)
    assert long.row_id not in {one.row_id for one in made} and len(made) == len(ROWS)
    assert all(long.question not in one.system for one in made)


def test_footnotes_are_neither_shown_nor_learned() -> None:
    noted = row("病", "", "什么是病", "这是病[12]。")
    (one,) = grounded_conversations([noted], ROWS, "", seed=1)
    assert one.output == "这是病。"
    assert "[12]" not in one.system
    assert row_text(noted).endswith("[12]。")


def test_what_is_shown_comes_from_the_rows_that_may_be_seen() -> None:
    (one,) = grounded_conversations([ROWS[0]], ROWS[:2], "", seed=1)
    assert shown_in(one.system, ROWS) == shown_in(one.system, ROWS[:2])
