from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from data.records import Row
from rag.filters import RowFilter
from rag.grounding import Grounder, text_of
from rag.knowledge import KnowledgeIndex
from rag.selection import Selection
from rag.stages import Hit, Search
from rag.subjects import subjects_of
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT, STOP, row


@dataclass
class FixedIndex:
    """An index that finds these rows, best first, whatever is asked; remembers the questions."""

    rows: tuple[Row, ...]
    version: str = "0123456789ab"
    num_best: int = 1
    answerability: float | None = None
    is_doubtful: bool = False
    is_verbatim: bool = False
    only: RowFilter | None = None
    asked: list[str] = field(default_factory=list)

    def search(self, question: str, top_k: int, only: RowFilter | None = None) -> Search:
        self.only = only
        self.asked.append(question)
        hits = [Hit(found, 0.9 - 0.1 * place, {"dense": place + 1}) for place, found in enumerate(self.rows)]
        return Search(
            tuple(hits[:top_k]),
            {"embed": 1.0, "retrieve": 2.0},
            self.num_best,
            answerability=self.answerability,
            is_doubtful=self.is_doubtful,
            is_verbatim=self.is_verbatim,
        )


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_rows_stand_in_the_order_of_their_ids_whatever_their_rank() -> None:
    ordered = tuple(sorted((SALT, STOP, COLD), key=lambda found: found.row_id))
    for found in ((SALT, STOP, COLD), (COLD, SALT, STOP)):
        grounding = Grounder(FixedIndex(found)).ground([user("盐")])
        assert grounding.rows == ordered
        assert dict(zip(grounding.rows, grounding.scores, strict=True))[found[0]] == 0.9
        system = str(grounding.messages[0]["content"])
        places = [system.index(r.answer) for r in ordered]
        assert places == sorted(places)
        for number, r in enumerate(ordered, start=1):
            assert f"[{number}]" in system
            assert r.question in system


def test_the_prompt_begins_with_what_does_not_change() -> None:
    grounder = Grounder(FixedIndex((SALT, COLD)), system_prompt="你是医生。")
    one, other = (
        str(grounder.ground([user(text)]).messages[0]["content"]) for text in ("盐吃多少", "感冒了怎么办呀")
    )
    assert one.startswith("你是医生。\n\n")
    rules = one[: one.index(min(SALT, COLD, key=lambda r: r.row_id).question)]
    assert len(rules) > 20
    assert other.startswith(rules)


def test_earlier_turns_stay_and_the_question_is_last() -> None:
    turns = [user("感冒怎么办"), {"role": "assistant", "content": "多喝温水[1]。"}, user("盐吃多少")]
    messages = Grounder(FixedIndex((SALT,))).ground(turns).messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert list(messages[1:3]) == turns[:2]
    assert str(messages[3]["content"]).startswith("盐吃多少")


def test_the_question_names_the_best_row() -> None:
    for found in ((SALT, COLD), (COLD, SALT)):
        grounding = Grounder(FixedIndex(found)).ground([user("盐吃多少")])
        last = str(grounding.messages[-1]["content"])
        assert found[0].question in last
        assert found[1].question not in last


def test_the_nearest_row_may_be_quoted_and_its_rival_led_to() -> None:
    for found in ((SALT, COLD), (COLD, SALT)):
        grounding = Grounder(FixedIndex(found, num_best=2)).ground([user("高血压和感冒吃盐多少")])
        assert grounding.quotable is not None
        assert grounding.rival is not None
        assert (grounding.rows[grounding.quotable], grounding.rows[grounding.rival]) == found
    alone = Grounder(FixedIndex((SALT, COLD))).ground([user("高血压吃盐多少")])
    assert alone.rival is None


def test_a_greeting_quotes_no_row_and_a_follow_up_does() -> None:
    grounder = Grounder(FixedIndex((SALT,)))
    assert grounder.ground([user("你好")]).quotable is None
    assert grounder.ground([user("高血压能吃盐吗"), user("那要吃多少呢")]).quotable == 0
    silent = Grounder(FixedIndex((SALT,)), quote_unsupported=False)
    assert silent.ground([user("高血压能吃盐吗")]).quotable is None


def test_the_clients_system_message_comes_after_the_rules_and_before_the_rows() -> None:
    messages = [{"role": "system", "content": "请用一句话。"}, user("盐吃多少")]
    grounded = Grounder(FixedIndex((SALT,)), system_prompt="你是医生。").ground(messages).messages
    assert [message["role"] for message in grounded] == ["system", "user"]
    system = str(grounded[0]["content"])
    assert system.index("你是医生。") < system.index("请用一句话。") < system.index(SALT.answer)


def test_the_prompt_is_in_the_language_of_the_question() -> None:
    grounder = Grounder(FixedIndex((ASPIRIN,)))
    chinese = str(grounder.ground([user("阿司匹林吃多少")]).messages[0]["content"])
    english = str(grounder.ground([user("How much aspirin?")]).messages[0]["content"])
    assert chinese != english
    assert english.isascii()


def test_footnotes_of_a_rows_text_are_not_shown_as_markers() -> None:
    noted = row("morphine", "", "What is morphine?", "A pain medication.[5][7]", 9)
    system = str(Grounder(FixedIndex((noted,))).ground([user("What is morphine?")]).messages[0]["content"])
    assert "A pain medication." in system
    assert "[5]" not in system


def test_braces_in_a_row_are_text() -> None:
    braces = row("", "", "{question}是什么", "用{marker}代替{0}。", 9)
    system = str(Grounder(FixedIndex((braces,))).ground([user("是什么")]).messages[0]["content"])
    assert "用{marker}代替{0}。" in system


def test_the_search_sees_users_messages_only() -> None:
    index = FixedIndex((SALT,))
    Grounder(index).ground(
        [user("高血压能喝酒吗"), {"role": "assistant", "content": "不能。"}, user("那盐呢？")]
    )
    assert index.asked == ["高血压能喝酒吗\n那盐呢？"]


def test_no_row_is_refused_in_the_language_of_the_question() -> None:
    grounder = Grounder(FixedIndex(()))
    chinese, english = grounder.ground([user("盐")]), grounder.ground([user("salt?")])
    assert chinese.refusal is not None
    assert "知识库" in chinese.refusal
    assert english.refusal is not None
    assert english.refusal.isascii()
    assert chinese.rows == ()


def test_a_threshold_refuses_weak_rows_and_keeps_strong_ones() -> None:
    assert Grounder(FixedIndex((SALT,)), refuse_below=0.95).ground([user("盐")]).refusal is not None
    assert Grounder(FixedIndex((SALT,)), refuse_below=0.85).ground([user("盐")]).refusal is None
    assert Grounder(FixedIndex((SALT,))).ground([user("盐")]).refusal is None


def test_parts_of_a_message_are_joined() -> None:
    parts = [
        {"type": "text", "text": "盐"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "多少"},
    ]
    assert text_of({"role": "user", "content": parts}) == "盐\n多少"
    assert text_of({"role": "assistant", "content": None}) == ""


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "hi"}], [user("  ")]])
def test_without_a_question_there_is_nothing_to_ground(messages: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="no user message"):
        Grounder(FixedIndex((SALT,))).ground(messages)


def test_an_opened_index_grounds(knowledge: KnowledgeIndex) -> None:
    grounding = Grounder(knowledge, selection=Selection(2)).ground([user(COLD.question)])
    assert len(grounding.rows) == 2
    assert COLD in grounding.rows
    assert grounding.kb_version == knowledge.version
    assert set(grounding.timings_ms) == {"embed", "retrieve"}
    assert set(grounding.rows) <= set(ROWS)


def test_a_doubtful_find_is_refused_and_a_verbatim_one_named() -> None:
    doubtful = Grounder(FixedIndex((SALT,), is_doubtful=True)).ground([user("每天吃盐多少")])
    assert doubtful.refusal is not None
    assert f"最接近的条目是“{SALT.question}”" in doubtful.refusal
    assert doubtful.rows == (SALT,)
    of_else = Grounder(FixedIndex((SALT,), is_doubtful=True)).ground([user("你好")])
    assert of_else.refusal is not None
    assert SALT.question not in of_else.refusal
    assert of_else.led_to is None
    for answerability, is_named in ((0.3, True), (-0.2, False)):
        index = FixedIndex((COLD, SALT), is_doubtful=True, answerability=answerability)
        likely = Grounder(index).ground([user("你好")])
        assert likely.refusal is not None
        assert (COLD.question in likely.refusal) is is_named
        assert (likely.led_to is not None and likely.rows[likely.led_to] == COLD) is is_named
    for found in ((SALT, COLD), (COLD, SALT)):
        grounding = Grounder(FixedIndex(found, is_verbatim=True)).ground([user("盐吃多少")])
        assert grounding.verbatim is not None
        assert grounding.rows[grounding.verbatim] == found[0]
    assert Grounder(FixedIndex((SALT,))).ground([user("盐")]).verbatim is None


def test_a_filter_reaches_the_search() -> None:
    index = FixedIndex((SALT,))
    Grounder(index).ground([user("盐")], RowFilter(info_1=("高血压",)))
    assert index.only == RowFilter(info_1=("高血压",))


def test_a_follow_up_is_searched_with_its_subject() -> None:
    index = FixedIndex((SALT,))
    grounder = Grounder(index, subjects=subjects_of(ROWS))
    grounding = grounder.ground([user("高血压能喝酒吗"), user("那饮食方面呢？")])
    assert index.asked == [grounding.searched] == ["高血压 那饮食方面呢？"]
    assert str(grounding.messages[-1]["content"]).startswith("高血压 那饮食方面呢？")
