"""What to search for when a question leans on the ones before it.

"那饮食方面呢？" after a question on 高血压 means 高血压 and 饮食; "那糖尿病呢？" means the question before, of another
subject. By rule, so that it is the same every time and costs nothing: a question that names a subject of the
knowledge base, or says enough of its own, is left as it is. Pure text, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.records import normalised
from rag.subjects import Subjects
from rag.terms import has_cjk, terms

_MOST_TURNS = 8
_SHORT_CHARACTERS = 16
_SHORT_WORDS = 8
_BARE_CHARACTERS = 12

# Openings that go on from what was said, and words that point to it.
_GOES_ON = re.compile(
    r"^(?:那么?|这|它|他|她|还有|另外|此外|除此|然后|接着|上面|上述|刚才|前面|继续|再|其他|其它)"
)
_POINTS_BACK = re.compile(r"它|这[个种类些样]|该[病药]|上述|刚才|前面")
_ASKS_ON = re.compile(r"呢[？?。！!\s]*$")
# A question that begins with its predicate has left its subject out.
_NO_SUBJECT = re.compile(
    r"^(?:能不能|能|可不可以|可以|可|要不要|需不需要|需要|要|应该|该|会不会|会|怎么|怎样|如何|有什么|有没有|有哪些|"
    r"是不是|吃什么|不能吃|多久|多长|多少|几|什么时候|什么|为什么|为何|哪些|哪种|平时)"
)
_GOES_ON_ENGLISH = re.compile(
    r"^(?:and|also|then|but|what about|how about|what else|anything else|why(?: not)?$)\b"
)
_POINTS_BACK_ENGLISH = re.compile(
    r"\b(?:it|its|they|them|their|this|that|these|those|he|she|his|her|instead|else|more)\b"
)
# "Is it safe to ...": here it points to nothing.
_EMPTY_IT = re.compile(r"\b(?:is|was|would|will|does)\s+it\s+(?:\w+\s+){0,2}?(?:to|that|if|when)\b")
# What is left of "那糖尿病呢" and "and what about gout?" without the subject.
_FILLERS = re.compile(r"[那么呢的吗啊呀和跟与患者病人得了如果是换成\W_]")
_FILLER_WORDS = frozenset(
    re.findall(r"\w+", "and also then but or so what how about for with of in if the a an is are i have")
)


@dataclass(frozen=True)
class _Turn:
    """A user's message, understood: what it means by itself, and the subject that it is about."""

    meaning: str
    subject: tuple[str, ...]


def search_text(asked: Sequence[str], subjects: Subjects | None = None) -> str:
    """Return what to search for, given the user's messages so far, the question last.

    Earlier messages are understood in the same way first, so that a chain of follow-ups keeps its subject.
    """
    known = subjects or Subjects()
    before: _Turn | None = None
    for message in asked[-_MOST_TURNS:]:
        before = _understood(message, before, known)
    return before.meaning if before else ""


def _understood(message: str, before: _Turn | None, known: Subjects) -> _Turn:
    named = known.mentions(message)
    if before is None or not before.meaning.strip() or not message.strip():
        return _Turn(message, named)
    if named:
        if _only_names(message, named) and before.subject and not set(named) <= set(before.subject):
            return _Turn(_of_another(before, message), named)
        return _Turn(message, named)
    if not _leans_back(message, knows_subjects=bool(before.subject)):
        return _Turn(message, named)
    if before.subject:
        return _Turn(f"{' '.join(before.subject)} {message}", before.subject)
    return _Turn(f"{before.meaning}\n{message}", ())


def _leans_back(message: str, *, knows_subjects: bool) -> bool:
    """Tell whether a message that names no subject needs the ones before it to be understood."""
    text = message.strip().lower()
    if not has_cjk(text):
        text = _EMPTY_IT.sub(" ", text.rstrip("?!. "))
        words = re.findall(r"[\w'’]+", text)
        pointing = _GOES_ON_ENGLISH.search(text) or _POINTS_BACK_ENGLISH.search(text)
        return len(words) <= _SHORT_WORDS and pointing is not None
    length = sum(character.isalnum() for character in text)
    if length > _SHORT_CHARACTERS:
        return False
    if any(cue.search(text) for cue in (_GOES_ON, _POINTS_BACK, _ASKS_ON)):
        return True
    return knows_subjects and length <= _BARE_CHARACTERS and _NO_SUBJECT.search(text) is not None


def _only_names(message: str, named: Sequence[str]) -> bool:
    """Tell whether a message says nothing but a subject: 那糖尿病呢, and what about gout?"""
    text = message.strip().lower()
    if not has_cjk(message):
        if not _GOES_ON_ENGLISH.search(text):
            return False
        names = {word for name in named for word in terms(name)}
        return all(word in names or word in _FILLER_WORDS for word in terms(message))
    if not (_GOES_ON.search(text) or _ASKS_ON.search(text)):
        return False
    rest = _without(message, named)
    return len(_FILLERS.sub("", rest)) <= 1


def _without(message: str, named: Sequence[str]) -> str:
    """Return a message without what names its subject."""
    text = normalised(message)
    for name in sorted(named, key=len, reverse=True):
        text = text.replace(name, " ")
    return text


def _of_another(before: _Turn, message: str) -> str:
    """Return the question before, without its subject, after the message that names another."""
    return f"{message.strip()} {normalised(_without(before.meaning, before.subject))}"
