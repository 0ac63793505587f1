from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.citations import Citation, CitationWriter
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT

_MARKER = re.compile(r"[\[【［]\s*\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*\s*[\]】］]")
_SALT = "食盐每天不超过5克"
_STOP = "不要自行停药，突然停药会使血压反弹"
_COLD = "多喝温水，注意休息"


def write(text: str, sizes: tuple[int, ...] = ()) -> tuple[str, tuple[Citation, ...]]:
    """What the writer makes of `text`, fed in pieces of these sizes and the rest as one."""
    writer = CitationWriter(ROWS)
    sent = []
    for size in sizes:
        sent.append(writer.feed(text[:size]))
        text = text[size:]
    sent += [writer.feed(text), writer.finish()]
    return "".join(sent), writer.citations


def markers(text: str) -> list[tuple[int, bool]]:
    return [(citation.marker, citation.attributed) for citation in write(text)[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{_SALT}[1]。", f"{_SALT}[1]。"),
        (f"{_SALT}【1】。", f"{_SALT}[1]。"),
        (f"{_SALT}［１］。", f"{_SALT}[1]。"),
        (f"{_SALT}[1][1]。", f"{_SALT}[1]。"),
        (f"{_SALT}[1, 7]。", f"{_SALT}[1]。"),
        (f"{_SALT}。[1]", f"{_SALT}[1]。"),
        (f"{_SALT}。 [1] 好的", f"{_SALT}[1]。 好的"),
        (f"[1] {_SALT}。", f"{_SALT}[1]。"),
        (f"- [1] {_SALT}\n- 【3】{_COLD}", f"- {_SALT}[1]\n- {_COLD}[3]"),
        (f"1. {_SALT}[1]\n2. {_COLD}[3]", f"1. {_SALT}[1]\n2. {_COLD}[3]"),
        ("Take 325 mg with food [4].", "Take 325 mg with food [4]."),
        ("Take 325 mg every four hours.[4] Yes.", "Take 325 mg every four hours[4]. Yes."),
    ],
)
def test_a_marker_is_written_canonically_at_its_sentences_end(text: str, expected: str) -> None:
    assert write(text)[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("好的 [9]。", "好的。"),
        ("好的[0]。", "好的。"),
        ("好的[5, 6] 吧", "好的 吧"),
        ("yes [12] no", "yes no"),
    ],
)
def test_a_marker_of_no_row_is_dropped_with_the_blank_before_it(text: str, expected: str) -> None:
    assert write(text) == (expected, ())


@pytest.mark.parametrize(
    "text", ["a[0] `b[1]` ", "[2024]年", "【注意】好的", "[x] 好", "好的[1", "见[1-3]页"]
)
def test_what_is_no_marker_goes_through(text: str) -> None:
    if text.startswith("a[0]"):
        assert write(text)[0] == "a `b[1]` "
    else:
        assert write(text)[0] == text


def test_a_sentence_gets_the_row_that_says_it() -> None:
    text, citations = write(f"您好！{_COLD}。")
    assert text == f"您好！{_COLD}[3]。"
    assert citations == (Citation(3, COLD, len(f"您好！{_COLD}"), len(f"您好！{_COLD}[3]"), attributed=True),)


def test_a_run_of_sentences_from_one_row_is_marked_at_its_first() -> None:
    text, _ = write(f"{_SALT}。少吃加工食品。多吃新鲜蔬果！{_COLD}。发热超过三天应及时就医。")
    assert text == f"{_SALT}[1]。少吃加工食品。多吃新鲜蔬果！{_COLD}[3]。发热超过三天应及时就医。"


def test_an_unsupported_sentence_ends_a_run_and_a_short_one_does_not() -> None:
    unsupported, _ = write(f"{_SALT}。北京哪家医院看甲亢最好。少吃加工食品。")
    assert unsupported == f"{_SALT}[1]。北京哪家医院看甲亢最好。少吃加工食品[1]。"
    short, _ = write(f"{_SALT}。好的。少吃加工食品。")
    assert short == f"{_SALT}[1]。好的。少吃加工食品。"


def test_a_sentence_that_no_row_says_gets_no_marker() -> None:
    assert markers("北京哪家医院看甲亢最好？我不知道您的情况。") == []


def test_a_question_gets_no_marker() -> None:
    assert write(f"{SALT.question}？{_SALT}。")[0] == f"{SALT.question}？{_SALT}[1]。"


def test_english_sentences_end_at_a_full_stop_and_a_blank() -> None:
    text, _ = write("Adults may take 325 mg. 感冒 means drink. Take it every four hours, e.g. with food.")
    assert text == "Adults may take 325 mg[4]. 感冒 means drink. Take it every four hours, e.g. with food[4]."


def test_the_models_marker_is_kept_where_no_row_is_clearly_better() -> None:
    assert markers("这个问题请咨询您的主治医生[2]。") == [(2, False)]
    assert markers(f"{_SALT}[1]，{_COLD}[3]。") == [(1, False), (3, False)]


def test_a_marker_on_another_rows_sentence_is_corrected() -> None:
    assert write(f"{_STOP}[1]。")[0] == f"{_STOP}[2]。"
    assert markers(f"{_STOP}[1]。") == [(2, True)]
    assert markers(f"[1] {_STOP}。") == [(2, True)]
    assert markers(f"{_STOP}。[1]") == [(2, True)]
    assert markers("Take 325 mg every four hours with food [2].") == [(4, True)]


def test_all_rows_named_at_once_become_the_one_that_says_it() -> None:
    assert write(f"{_COLD}[1][2][3]。")[0] == f"{_COLD}[3]。"


def test_a_marker_too_early_to_judge_is_answered_at_the_sentences_end() -> None:
    assert write(f"据[1]，{_COLD}。")[0] == f"据[1]，{_COLD}[3]。"


@pytest.mark.parametrize(
    "text",
    [
        "Take 3.5 times 325 mg every four hours",
        "See https://example.org/a.b?c=1;d=2 for food e.g. adults every four hours",
        "1. Adults may take 325 mg every four hours",
    ],
)
def test_ascii_punctuation_inside_a_sentence_does_not_end_it(text: str) -> None:
    assert write(text + ".")[0] in (f"{text}[4].", f"{text}.")


def test_offsets_are_code_points_of_the_emitted_text() -> None:
    text, citations = write(f"😀👍🏽{_SALT}[1]。😀{_COLD}[3]。 Adults may take 325 mg.")
    assert [text[c.start : c.end] for c in citations] == [f"[{c.marker}]" for c in citations]
    assert [c.row for c in citations] == [SALT, COLD, ASPIRIN]


def test_text_is_not_held_back_for_long() -> None:
    writer = CitationWriter(ROWS)
    assert writer.feed("食盐每天") == "食盐每天"
    assert writer.feed("不超过5克") == "不超过5克"
    assert writer.feed("。") == ""
    assert writer.feed("少") == "[1]。少"
    assert writer.feed("吃【") == "吃"
    assert writer.feed("注") == "【注"


def test_without_rows_markers_are_dropped_and_nothing_is_added() -> None:
    writer = CitationWriter(())
    assert writer.feed(f"{_SALT}[1]。{_COLD}。") + writer.finish() == f"{_SALT}。{_COLD}。"
    assert writer.citations == ()


_phrases = [
    _SALT,
    _STOP,
    _COLD,
    "Adults may take 325 mg",
    "with food",
    "北京",
    "您好",
    "1.",
    "3.5",
    "e.g.",
    "- ",
]
_signs = list('。！？；!?;.，, \t\n\u3000[]【】［］()”"`123９*#-')
_marks = ["[1]", "[2]", "【3】", "［4］", "[1][2]", "[1, 2]", "[9]", "`a[1]`", "```"]
_pieces = st.sampled_from([*_phrases, *_signs, *_marks])
_answers = st.lists(_pieces, max_size=25).map("".join)


@settings(deadline=None)
@given(_answers, st.lists(st.integers(0, 7), max_size=40))
def test_how_the_text_is_cut_does_not_matter(text: str, sizes: list[int]) -> None:
    assert write(text, tuple(sizes)) == write(text)


def bare(text: str) -> str:
    """The text without markers outside code, and without blanks."""
    from rag.markers import Code, MarkerScanner

    scanner = MarkerScanner()
    tokens = [token for character in text for token in scanner.take(character)] + list(scanner.finish())
    kept = [token.character if isinstance(token, Code) else token for token in tokens]
    return "".join(token for token in kept if isinstance(token, str) and token not in " \t\u3000")


@settings(deadline=None)
@given(_answers)
def test_nothing_but_markers_and_their_blanks_changes(text: str) -> None:
    emitted, citations = write(text)
    assert bare(emitted) == bare(text)
    for citation in citations:
        assert emitted[citation.start : citation.end] == f"[{citation.marker}]"
        assert ROWS[citation.marker - 1] == citation.row
    starts = [citation.start for citation in citations]
    assert starts == sorted(set(starts))


@settings(deadline=None)
@given(st.text(alphabet="食盐每天不超过5克。多喝温水 ab.,?!;\n`-", max_size=60))
def test_text_without_brackets_only_gains_markers(text: str) -> None:
    assert _MARKER.sub("", write(text)[0]) == text
