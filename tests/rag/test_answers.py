from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prompts import CHINESE, ENGLISH, Wording
from rag.answers import GroundedAnswer, related
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT

_GOOD = "食盐每天不超过5克，少吃加工食品。多喝水就好了呀朋友。"


def answered(
    pieces: list[str],
    *,
    quotable: int | None = 0,
    see_also: int | None = None,
    is_cut: bool = False,
    wording: Wording = CHINESE,
) -> tuple[list[str], GroundedAnswer]:
    """What is sent for each piece, and at the end."""
    answer = GroundedAnswer(ROWS, wording, quotable=quotable, see_also=see_also)
    sent = [answer.feed(piece) for piece in pieces]
    return [*sent, answer.finish(is_cut=is_cut)], answer


def marks(answer: GroundedAnswer, text: str) -> list[str]:
    """The text at each citation's offsets, which must be its marker."""
    found = [text[mark.start : mark.end] for mark in answer.citations]
    assert found == [f"[{mark.marker}]" for mark in answer.citations]
    assert [ROWS[mark.marker - 1] for mark in answer.citations] == [mark.row for mark in answer.citations]
    return found


def test_text_is_held_until_a_row_supports_a_sentence() -> None:
    sent, answer = answered(["您好！", "高血压饮食：食盐", "不超过5克。", "少吃加工食品。"])
    assert sent[:2] == ["", ""]
    assert "".join(sent) == "您好！高血压饮食：食盐不超过5克[1]。少吃加工食品。"
    assert sent[3] != ""
    assert not answer.is_quoted


def test_a_beginning_that_is_clearly_a_rows_answer_is_sent_before_its_sentence_ends() -> None:
    sent, _ = answered(list("食盐每天不超过5克，少吃加工食品。"))
    first = next(place for place, text in enumerate(sent) if text)
    assert first < len("食盐每天不超过5克，少")
    assert "".join(sent).startswith("食盐每天不超过5克，少吃加工食品[1]。")


def test_where_such_a_beginning_is_all_that_a_row_supports_the_nearest_row_is_led_to() -> None:
    text = "食盐每天不超过5克，但是喜欢的话每天吃上二十克咸菜其实也没有什么关系，身体好得很，请随意。"
    sent, answer = answered(list(text))
    whole = "".join(sent)
    assert whole == f"{text}\n\n另请参阅：{SALT.question}[1]"
    assert marks(answer, whole) == ["[1]"] and not answer.is_quoted
    assert "".join(answered(list(text), quotable=None)[0]) == text


@pytest.mark.parametrize("text", ["是的，血压高的人能不能吃咸菜", SALT.question, "高血压的饮食"])
def test_saying_the_question_again_is_no_such_beginning(text: str) -> None:
    sent, _ = answered(list(text))
    assert "".join(sent[:-1]) == ""


def test_nothing_is_held_where_nothing_may_be_quoted() -> None:
    sent, answer = answered(["是", "的"], quotable=None)
    assert sent == ["是", "的", ""]
    assert not answer.is_quoted
    assert not answer.citations


@pytest.mark.parametrize(
    "text",
    [
        "是",
        "",
        "血压高的人能不能吃咸菜呢，是不是要少放一点",
        "今天天气很好，适合出门散步。",
        SALT.question,
        f"{SALT.question}？[1]",
    ],
)
def test_an_answer_that_no_row_supports_gives_way_to_the_approved_one(text: str) -> None:
    sent, answer = answered([text], quotable=0)
    whole = "".join(sent)
    assert answer.is_quoted
    assert whole.replace("[1]", "") == SALT.answer
    assert set(marks(answer, whole)) == {"[1]"}


@pytest.mark.parametrize(
    "text",
    ["知识库中没有提到这个问题。", "抱歉，我无法回答。", "The entries do not mention it.", "I'm sorry, no."],
)
def test_a_model_that_declines_is_believed(text: str) -> None:
    sent, answer = answered([text], see_also=2)
    assert "".join(sent) == text
    assert answer.is_declined
    assert not answer.is_quoted


def test_a_text_cut_at_the_clients_limit_is_left_as_it_is() -> None:
    sent, answer = answered(["今天天气"], see_also=2, is_cut=True)
    assert "".join(sent) == "今天天气"
    assert not answer.is_quoted
    assert not answer.citations


def test_a_rival_row_is_led_to_at_the_end() -> None:
    sent, answer = answered([_GOOD], see_also=2)
    whole = "".join(sent)
    assert whole.endswith(f"\n\n另请参阅：{COLD.question}[3]")
    assert marks(answer, whole)[-1] == "[3]"


def test_a_rival_that_is_cited_already_is_not_led_to() -> None:
    whole = "".join(answered(["食盐每天不超过5克。多喝温水，注意休息。"], see_also=2)[0])
    assert "另请参阅" not in whole
    assert whole.endswith("[3]。")


def test_after_a_quote_the_offsets_are_those_of_the_quote() -> None:
    sent, answer = answered(["no, not that way at all, dear"], quotable=3, see_also=0, wording=ENGLISH)
    whole = "".join(sent)
    assert whole.startswith("Adults may take 325 mg")
    assert whole.endswith(f"\n\nSee also: {SALT.question} [1]")
    assert marks(answer, whole)[0] == "[4]"


@given(
    st.lists(st.integers(0, 12), max_size=6),
    st.sampled_from(
        [
            "是",
            _GOOD,
            "你好。" + _GOOD,
            SALT.question,
            "食盐每天不超过5克，但是吃多少咸菜其实都没有什么关系呢。",
        ]
    ),
)
def test_how_the_text_was_cut_does_not_matter(sizes: list[int], text: str) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    sent, answer = answered([*pieces, rest], see_also=3)
    whole = "".join(sent)
    once, same = answered([text], see_also=3)
    assert whole == "".join(once)
    assert answer.citations == same.citations
    marks(answer, whole)


def test_a_greeting_is_related_to_no_row() -> None:
    assert related("血压高每天吃盐多少", ROWS, 0)
    assert related("aspirin with food?", ROWS, ROWS.index(ASPIRIN))
    assert not related("你好", ROWS, 0)
    assert not related("thanks!", ROWS, 0)


def test_an_answer_about_another_illness_is_not_given() -> None:
    rows = (SALT, COLD)
    wrong = GroundedAnswer(rows, CHINESE, quotable=0, strangers={1})
    held = wrong.feed(COLD.answer)
    assert held == ""
    assert wrong.finish() == f"{SALT.answer[:-1]}[1]。"
    assert wrong.is_quoted
    assert [mark.row for mark in wrong.citations] == [SALT]
    right = GroundedAnswer(rows, CHINESE, quotable=0, strangers={1})
    assert (right.feed(SALT.answer) + right.finish()).startswith(SALT.answer[:5])
    assert not right.is_quoted
