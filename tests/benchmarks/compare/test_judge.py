"""A judge that is asked in both orders: who wins, how often it contradicts itself, what it agrees with."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from benchmarks.compare.arms import Arm
from benchmarks.compare.judge import cases, judge_questions, judge_record, judge_sentences, vote_of
from benchmarks.compare.questions import Question
from benchmarks.measures.scores import Given, Wanted, score

ARMS = [Arm(label, label, None) for label in ("good", "bad")]
QUESTIONS = [
    Question(f"问题{number}", Wanted(f"每天{number}次，每次5克，不要饮酒。", ("r",)), "", "")
    for number in range(1, 21)
]
ANSWERS = {
    "good": [Given(f"{question.wanted.reference}[1]", (), False, 1.0, 1, 1) for question in QUESTIONS],
    "bad": [Given("多休息，按时吃药。", None, False, 1.0, 1, 1) for _ in QUESTIONS],
}
SCORES = {
    arm: [score(given, question.wanted) for given, question in zip(of_arm, QUESTIONS, strict=True)]
    for arm, of_arm in ANSWERS.items()
}


def judged(reply: Callable[[str], str]) -> dict[str, object]:
    found = cases(ARMS, QUESTIONS, ANSWERS, range(len(QUESTIONS)))
    replies = [reply(question.text) for question in judge_questions(found)]
    return judge_record(Arm("j", "j", None), ARMS, found, replies, SCORES)


def knows(prompt: str) -> str:
    """Prefers the answer that has the reference's words."""
    return "比较之后：A" if re.search(r"回答A：每天", prompt) else "比较之后：B"


def test_a_judge_that_knows() -> None:
    record = judged(knows)
    (pair,) = record["pairs"]  # type: ignore[misc]
    assert (pair["first_wins"], pair["second_wins"], pair["undecided"]) == (20, 0, 0)
    assert pair["better"] == "good" and pair["p"] < 0.001
    assert record["same_in_both_orders"]["mean"] == 100  # type: ignore[index]
    assert record["agreement"]["rouge_l"]["mean"] == 100  # type: ignore[index]
    told = " ".join(judge_sentences(record))
    assert "j prefers good to bad on 20 questions, bad on 0" in told
    assert "prefers what ROUGE-L prefers in 100% [100, 100]" in told


def test_a_judge_that_takes_whatever_stands_first_decides_nothing() -> None:
    record = judged(lambda _: "A")
    (pair,) = record["pairs"]  # type: ignore[misc]
    assert (pair["first_wins"], pair["second_wins"], pair["undecided"], pair["better"]) == (0, 0, 20, None)
    assert record["same_in_both_orders"]["mean"] == 0  # type: ignore[index]
    assert record["agreement"] == {}
    assert "does not prefer one beyond chance between good and bad (0 to 0)" in judge_sentences(record)[0]


def test_a_judge_against_the_measures_is_seen() -> None:
    record = judged(lambda prompt: "A" if knows(prompt)[-1] == "B" else "B")
    assert record["agreement"]["chrf"]["mean"] == 0  # type: ignore[index]


def test_markers_do_not_show_which_answer_cites() -> None:
    found = cases(ARMS, QUESTIONS[:1], ANSWERS, [0])
    prompts = [question.text for question in judge_questions(found)]
    assert len(prompts) == 2 and "[1]" not in "".join(prompts)
    assert prompts[0].index("每天1次，每次5克，不要饮酒。", 60) < prompts[0].index("多休息")
    assert prompts[1].index("多休息") < prompts[1].rindex("每天1次")


@pytest.mark.parametrize(
    ("replies", "votes"),
    [
        (("A", "B"), ("first", "first")),
        (("B.", "Answer: A"), ("second", "second")),
        (("A", "A"), ("first", "second")),
        (("T", "t is T"), ("tie", "tie")),
        (("neither", "A"), None),
    ],
)
def test_votes(replies: tuple[str, str], votes: tuple[str, str] | None) -> None:
    assert vote_of(*replies) == votes
