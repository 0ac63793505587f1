"""What a small model wrote, as questions and answers: line forms are read leniently, JSON too. Pure text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_BEGINS = r"^[\s#>*\-•]*(?:第?\d{1,2}\s*[.、:：)）组题]*\s*)?[*_\s]*"
_QUESTION = re.compile(_BEGINS + r"(?:问题?|提问|Q|Question)\s*\d{0,2}[*_\s]*[:：.、][*_\s]*", re.IGNORECASE)
_ANSWER = re.compile(_BEGINS + r"(?:答案?|回答|A|Answer)\s*\d{0,2}[*_\s]*[:：.、][*_\s]*", re.IGNORECASE)
_INLINE_ANSWER = re.compile(r"(?<=[？?。])[ \t]*(?:答案?|回答|A|Answer)\s*[:：]\s*", re.IGNORECASE)
_NUMBERED = re.compile(r"^\s*(?:[-*•]|\d{1,2}\s*[.、)）:：])\s*")
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_QUESTION_KEYS = ("问", "问题", "question", "q")
_ANSWER_KEYS = ("答", "答案", "回答", "answer", "a")


@dataclass(frozen=True)
class Pair:
    """A question and the answer that the model gave."""

    question: str
    answer: str


def read_pairs(reply: str) -> list[Pair]:
    """Return the pairs of a reply, in order; none where it has none."""
    text = _FENCE.sub("", reply)
    pairs = _from_json(text)
    if pairs:
        return pairs
    question, answer = "", ""
    field = ""
    for line in _INLINE_ANSWER.sub("\n答：", text).split("\n"):
        asked, answered = _QUESTION.match(line), _ANSWER.match(line)
        if asked:
            pairs.append(Pair(question, answer))
            question, answer, field = line[asked.end() :], "", "Q"
        elif answered:
            answer, field = line[answered.end() :], "A"
        elif not line.strip():
            field = "" if field == "A" and answer else field
        elif field == "Q":
            question += line
        elif field == "A":
            answer += "\n" + line
    pairs.append(Pair(question, answer))
    tidy = (Pair(_tidy(pair.question), _tidy(pair.answer)) for pair in pairs)
    return [pair for pair in tidy if pair.question and pair.answer]


def read_wordings(reply: str) -> list[str]:
    """Return the lines of a reply that hold a question, without their numbers and labels."""
    found = []
    for line in _FENCE.sub("", reply).split("\n"):
        text = _tidy(_NUMBERED.sub("", _QUESTION.sub("", line)))
        if text and not text.endswith(("：", ":")):
            found.append(text)
    return list(dict.fromkeys(found))


def _from_json(text: str) -> list[Pair]:
    start, end = text.find("["), text.rfind("]")
    if not 0 <= start < end:
        return []
    try:
        items = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return []
    pairs = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            lowered = {str(key).strip().lower(): value for key, value in item.items()}
            question, answer = (
                next((str(lowered[key]) for key in keys if key in lowered), "")
                for keys in (_QUESTION_KEYS, _ANSWER_KEYS)
            )
            if question.strip() and answer.strip():
                pairs.append(Pair(_tidy(question), _tidy(answer)))
    return pairs


def _tidy(text: str) -> str:
    return text.strip().strip("*_").strip().strip('“”"`').strip()
