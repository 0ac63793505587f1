"""The terms that two texts are compared by: character bigrams of Chinese, Japanese and Korean, words otherwise.

Chinese is written without blanks, and a bigram needs no dictionary to be right about a new drug's name.
"""

from __future__ import annotations

import re
from functools import lru_cache

import snowballstemmer

from data.records import normalised

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_CJK_CHARACTER = re.compile(f"[{_CJK}]")
_ENGLISH = re.compile("[a-z]+")
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")


def has_cjk(text: str) -> bool:
    """Tell whether `text` holds a Chinese, Japanese or Korean character."""
    return _CJK_CHARACTER.search(text) is not None


def num_cjk(text: str) -> int:
    """Return how many Chinese, Japanese and Korean characters `text` holds."""
    return len(_CJK_CHARACTER.findall(text))


def terms(text: str) -> list[str]:
    """Return the terms of `text` in order, with repetitions.

    A run of CJK characters gives its overlapping bigrams (a lone character itself), any other run of letters
    and digits gives one word. Full-width and half-width, upper and lower case are the same.
    """
    found: list[str] = []
    for match in _RUN.finditer(normalised(text)):
        run = match.group()
        if len(run) > 1 and _CJK_CHARACTER.match(run):
            found += [run[place : place + 2] for place in range(len(run) - 1)]
        else:
            found.append(run)
    return found


def stems(text: str) -> list[str]:
    """Return the terms of `text`, English words without their endings: a printer and printers are the same."""
    return [_stem(term) for term in terms(text)]


@lru_cache(maxsize=1 << 16)
def _stem(term: str) -> str:
    if _ENGLISH.fullmatch(term) is None:
        return term
    # Keeps what it works on in itself, so that two threads may not share one.
    found: str = snowballstemmer.stemmer("english").stemWord(term)
    return found
