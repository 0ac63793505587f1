"""A model as judge: which of two answers is nearer to the reference, asked in both orders.

A judge prefers the answer that it sees first, or the longer one, more often than it should. So each pair is put to
it twice, the second time with the answers swapped; only where it says the same both times is there a winner. How
often it contradicts itself, and how often it agrees with the automatic measures, is part of the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from benchmarks.compare.arms import Arm
from benchmarks.compare.questions import Question
from benchmarks.compare.verdicts import Table
from benchmarks.measures.scores import BY_NAME, Given, Wanted
from benchmarks.significance import CONFIDENCE, mcnemar, mean_interval
from rag.terms import has_cjk
from serving.quickstart.scores import without_markers

Vote = Literal["first", "second", "tie"]
COMPARED_WITH = ("rouge_l", "bleu_4", "chrf", "similarity", "facts_kept")
_ENGLISH = (
    "You compare two answers to a question with the reference answer. Better is the answer that says more of what "
    "the reference says and nothing that contradicts it. Length, style and citations do not count.\n\n"
    "Question: {question}\n\nReference: {reference}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n"
    "Reply with one letter only: A, B, or T for a tie."
)
_CHINESE = (
    "请对照参考答案，比较对同一问题的两个回答。与参考答案说得一致的内容更多、且没有与其矛盾的回答更好；长短、文风和引用标记不计。\n\n"
    "问题：{question}\n\n参考答案：{reference}\n\n回答A：{a}\n\n回答B：{b}\n\n"
    "只回复一个字母：A、B，或 T（不分高下）。"
)
_LETTER = re.compile(r"(?<![A-Za-z])([ABT])(?![A-Za-z])")


@dataclass(frozen=True)
class Case:
    """Two arms' answers to one question, by the question's place; `prompts` are in the one order and the other."""

    place: int
    first: str
    second: str
    prompts: tuple[str, str]


def cases(
    arms: Sequence[Arm],
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[Given]],
    places: Sequence[int],
) -> list[Case]:
    """Return what to put to the judge: every two arms at each of the questions' `places`."""
    found = []
    for place in places:
        question = questions[place]
        for one, other in combinations((arm.label for arm in arms), 2):
            texts = [without_markers(answers[label][place].text) for label in (one, other)]
            prompts = (_prompt(question, *texts), _prompt(question, *reversed(texts)))
            found.append(Case(place, one, other, prompts))
    return found


def judge_questions(found: Sequence[Case]) -> list[Question]:
    """Return the judge's prompts as questions to ask."""
    return [Question(prompt, Wanted("", ()), "", "") for case in found for prompt in case.prompts]


def judge_record(
    judge: Arm, arms: Sequence[Arm], found: Sequence[Case], replies: Sequence[str], scores: Table
) -> dict[str, Any]:
    """Return the report's part.

    Args:
        judge: Who judged.
        arms: Whose answers.
        found: What was put to it.
        replies: What it said, two to each case, in the order of `judge_questions`.
        scores: The automatic measures of every answer.
    """
    votes = [vote_of(replies[2 * number], replies[2 * number + 1]) for number in range(len(found))]
    readable = [vote for vote in votes if vote is not None]
    num_places = len({case.place for case in found})
    return {
        "model": judge.model,
        "is_an_arm": judge.model in {arm.model for arm in arms},
        "num_questions": num_places,
        "num_unreadable": len(votes) - len(readable),
        "same_in_both_orders": _share([float(one == other) for one, other in readable]),
        "pairs": [
            _pair_record(one, other, found, votes) for one, other in combinations([a.label for a in arms], 2)
        ],
        "agreement": {
            name: agreed
            for name in COMPARED_WITH
            if (agreed := _agreement(name, found, votes, scores)) is not None
        },
    }


def vote_of(reply: str, swapped_reply: str) -> tuple[Vote, Vote] | None:
    """Return what the judge said in each order, of the same two answers; None where a reply names no letter."""
    first, second = _letter(reply), _letter(swapped_reply)
    if first is None or second is None:
        return None
    as_first: Mapping[str, Vote] = {"A": "first", "B": "second", "T": "tie"}
    as_second: Mapping[str, Vote] = {"A": "second", "B": "first", "T": "tie"}
    return as_first[first], as_second[second]


def judge_sentences(record: Mapping[str, Any]) -> list[str]:
    """Say what the judge found and what that is worth."""
    told = []
    for pair in record["pairs"]:
        if pair["better"] is not None:
            worse = pair["second"] if pair["better"] == pair["first"] else pair["first"]
            wins = sorted((pair["first_wins"], pair["second_wins"]))
            told.append(
                f"{record['model']} prefers {pair['better']} to {worse} on {wins[1]} questions, {worse} on {wins[0]}, "
                f"and is undecided on {pair['undecided']} (sign test p = {pair['p']:.2g})."
            )
    level = [
        f"{pair['first']} and {pair['second']} ({pair['first_wins']} to {pair['second_wins']})"
        for pair in record["pairs"]
        if pair["better"] is None
    ]
    if level:
        told.append(f"{record['model']} does not prefer one beyond chance between {', '.join(level)}.")
    same = record["same_in_both_orders"]
    worth = []
    if same is not None:
        worth.append(f"it says the same with the answers swapped in {_with_interval(same)} of cases")
    if (agreed := record["agreement"].get("rouge_l")) is not None:
        worth.append(f"prefers what ROUGE-L prefers in {_with_interval(agreed)} of those it decides")
    if worth:
        own = " It is one of the arms." if record["is_an_arm"] else ""
        told.append(f"What it is worth: {' and '.join(worth)}.{own}")
    return told


def _prompt(question: Question, a: str, b: str) -> str:
    form = _CHINESE if has_cjk(question.text) else _ENGLISH
    return form.format(question=question.text, reference=question.wanted.reference, a=a, b=b)


def _letter(reply: str) -> str | None:
    """Return the last letter of its own in a reply: a model that explains itself does so first."""
    letters = _LETTER.findall(reply)
    return letters[-1] if letters else None


def _winner(vote: tuple[Vote, Vote] | None) -> Vote | None:
    """Return the arm that won in both orders."""
    return vote[0] if vote is not None and vote[0] == vote[1] and vote[0] != "tie" else None


def _pair_record(
    one: str, other: str, found: Sequence[Case], votes: Sequence[tuple[Vote, Vote] | None]
) -> dict[str, Any]:
    of_pair = [
        _winner(vote)
        for case, vote in zip(found, votes, strict=True)
        if (case.first, case.second) == (one, other)
    ]
    first, second = of_pair.count("first"), of_pair.count("second")
    p = mcnemar(first, second)
    better = (one if first > second else other) if p < 1 - CONFIDENCE else None
    return {
        "first": one,
        "second": other,
        "first_wins": first,
        "second_wins": second,
        "undecided": len(of_pair) - first - second,
        "p": p,
        "better": better,
    }


def _agreement(
    name: str, found: Sequence[Case], votes: Sequence[tuple[Vote, Vote] | None], scores: Table
) -> dict[str, Any] | None:
    """Return how often a measure prefers the judge's winner, where both have one; the mean over questions."""
    sign = 1 if BY_NAME[name].higher_is_better else -1
    by_place: dict[int, list[float]] = {}
    for case, vote in zip(found, votes, strict=True):
        winner = _winner(vote)
        values = scores[case.first][case.place][name], scores[case.second][case.place][name]
        if winner is None or values[0] is None or values[1] is None or values[0] == values[1]:
            continue
        prefers_first = sign * (values[0] - values[1]) > 0
        by_place.setdefault(case.place, []).append(float(prefers_first == (winner == "first")))
    return _share([sum(agreed) / len(agreed) for agreed in by_place.values()])


def _share(values: Sequence[float]) -> dict[str, Any] | None:
    return asdict(mean_interval([100 * value for value in values])) if values else None


def _with_interval(share: Mapping[str, Any]) -> str:
    return f"{share['mean']:.0f}% [{share['low']:.0f}, {share['high']:.0f}]"
