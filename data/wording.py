"""Questions as they are compared: spelling and politeness folded away, what carries meaning kept.

`canonical` drops what people vary without asking something else: case, width, punctuation, particles (吗, 的),
greetings, articles, plural s; and folds common variants of one word (怎样 and 如何, 可以 and 能). `difference`
says whether two questions differ in wording only. A number, a negation or a word such as 左/右 that differs is
never wording: 每天两次 and 每天三次 look alike and are two questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

from rapidfuzz.distance import OSA

from data.records import normalised

Difference = Literal["none", "wording", "addition", "content"]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CJK = _HAN + "\u3040-\u30ff\uac00-\ud7af々〇"

# Variants of one word, longest first within the alternation; the whole match is replaced by the key.
_CHINESE_VARIANTS = {
    "为什么": "为什么|为何|为啥|干嘛",
    "怎么": "怎么样|怎么|怎样|如何|咋样|咋",
    "什么": "什么|哪些|啥",
    "能": "能不能|可不可以|能否|可否|能够|可以",
    "是": "是不是|是否",
    "有": "有没有",
    "会": "会不会",
    "要": "要不要|需不需要|应不应该|该不该|应该|应当|需要",
    "人": "患者|病人",
    "": (
        "想请问一下|请问一下|想问一下|我想问问?|想问下|问一下|请问|请教|您好|你好|谢谢|麻烦|"
        "吗|呢|啊|呀|吧|嘛|么|的|了|哦|噢"
    ),
}
_CHINESE = re.compile(
    "|".join(f"(?P<v{place}>{pattern})" for place, pattern in enumerate(_CHINESE_VARIANTS.values()))
)
_CHINESE_KEYS = tuple(_CHINESE_VARIANTS)

_ENGLISH_VARIANTS = {
    "what's": "what is", "whats": "what is", "how's": "how is", "who's": "who is", "where's": "where is",
    "it's": "it is", "i'm": "i am", "can't": "can not", "cannot": "can not", "cant": "can not", "won't": "will not",
    "don't": "do not", "dont": "do not", "doesn't": "do not", "doesnt": "do not", "didn't": "do not",
    "isn't": "is not", "isnt": "is not", "aren't": "are not", "wasn't": "is not", "shouldn't": "should not",
    "does": "do", "did": "do", "could": "can", "a": "", "an": "", "the": "", "please": "", "hi": "", "hello": "",
    "pls": "", "u": "you",
}  # fmt: skip

# A difference made of these alone is wording.
_FUNCTION_WORDS = frozenset(
    "是会要能有人我你您他她它们这那个种呗就也都还又很请下把得地之所其来去でのすまかはがをにも"
) | {
    "am", "is", "are", "was", "were", "be", "been", "being", "do", "can", "will", "would", "shall", "of", "to", "it",
    "i", "you", "me", "my", "your", "we", "us", "our", "one", "any", "some", "there", "that", "this", "these", "those",
    "so", "just", "really", "exactly", "also", "get", "have", "has", "had",
}  # fmt: skip

# A difference that touches one of these is another question, however alike the rest is.
_NEGATIONS = frozenset("不没无非勿别未禁忌停免否莫") | {
    "not", "no", "never", "none", "nor", "neither", "without", "except", "unless", "stop", "avoid",
}  # fmt: skip
_OPPOSITES = frozenset(
    "高低左右前后男女大小上下内外早晚新旧轻重急慢甲乙丙丁戊阴阳多少快冷热孕婴儿童老幼强弱软硬干湿长短初复单双"
) | {
    "before", "after", "more", "less", "high", "low", "left", "right", "male", "female", "adult", "child", "infant",
    "pregnant", "first", "last", "min", "max", "hyper", "hypo",
}  # fmt: skip
_NUMERALS = frozenset("零一二两三四五六七八九十百千万半")
_NUMBER = re.compile(r"\d")

_WORD = re.compile(rf"[{_CJK}]|\d+(?:[.:/]\d+)*%?|[^\W\d_{_CJK}]+(?:['’][^\W\d_{_CJK}]+)?")
_IS_CJK = re.compile(f"[{_CJK}]")
_TYPO_MIN_LETTERS = 6


@lru_cache(maxsize=1 << 17)
def is_cjk(character: str) -> bool:
    """Tell whether a character belongs to a script written without spaces (Han, kana, hangul)."""
    return bool(_IS_CJK.match(character))


def num_cjk(text: str) -> int:
    """Return how many characters of a text are CJK."""
    return len(_IS_CJK.findall(text))


def words(text: str) -> list[str]:
    """Return the canonical words of a question: single CJK characters, numbers, and other words, in order."""
    folded = _CHINESE.sub(_fold_chinese, normalised(text).replace("’", "'"))
    found: list[str] = []
    for word in _WORD.findall(folded):
        if is_cjk(word) or word[0].isdigit():
            found.append(word)
        else:
            found += _ENGLISH_VARIANTS.get(word, _singular(word)).split()
    # A question of nothing but particles (什么的吗) is still a question.
    return found or _WORD.findall(normalised(text))


def canonical(text: str) -> str:
    """Return the canonical words as one string, a space on either side of each word that is not CJK."""
    return canonical_of(words(text))


def canonical_of(canonical_words: Sequence[str]) -> str:
    """Return what `canonical` returns, of words already found."""
    joined = "".join(word if is_cjk(word) else f" {word} " for word in canonical_words)
    return joined.replace("  ", " ")


def numbers(canonical_words: Sequence[str]) -> tuple[str, ...]:
    """Return the words with digits, sorted: two questions with others are two questions."""
    return tuple(sorted(word for word in canonical_words if _NUMBER.search(word)))


def negations(canonical_words: Sequence[str]) -> frozenset[str]:
    """Return the words that deny: two questions with others are two questions."""
    return _NEGATIONS.intersection(canonical_words)


def difference(left: Sequence[str], right: Sequence[str]) -> Difference:
    """Say how two canonical questions differ.

    Returns:
        "wording" when only function words differ, or one letter of a long word; "addition" when one has words
        that the other has not and the rest is the same; "content" when anything is exchanged, or a number, a
        negation or an opposite differs.
    """
    if list(left) == list(right):
        return "none"
    added: set[int] = set()
    for tag, start, end, other_start, other_end in SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            continue
        mine = [word for word in left[start:end] if word not in _FUNCTION_WORDS]
        theirs = [word for word in right[other_start:other_end] if word not in _FUNCTION_WORDS]
        if mine == theirs:
            continue
        if any(_is_critical(word) for word in (*mine, *theirs)):
            return "content"
        if mine and theirs:
            if not _same_but_for_a_typo(mine, theirs):
                return "content"
        else:
            added.add(0 if mine else 1)
    if not added:
        return "wording"
    return "addition" if len(added) == 1 else "content"


def _fold_chinese(match: re.Match[str]) -> str:
    assert match.lastgroup is not None
    return _CHINESE_KEYS[int(match.lastgroup[1:])]


def _singular(word: str) -> str:
    if len(word) >= 4 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _is_critical(word: str) -> bool:
    return word in _NEGATIONS or word in _OPPOSITES or word in _NUMERALS or _NUMBER.search(word) is not None


def _same_but_for_a_typo(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    return len(mine) == len(theirs) and all(
        one == other
        or (min(len(one), len(other)) >= _TYPO_MIN_LETTERS and OSA.distance(one, other, score_cutoff=1) <= 1)
        for one, other in zip(mine, theirs, strict=True)
    )
