"""ROUGE-L between an answer and its reference."""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz.distance import LCSseq

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"\w+")
_MARKER = re.compile(r"\s*\[\d+\]")


def without_markers(text: str) -> str:
    """Return an answer without its citation markers, which no reference has."""
    return _MARKER.sub("", text)


def units(text: str) -> list[str]:
    """Return what ROUGE counts: characters of a text that holds Chinese, lower-case words of any other."""
    normal = unicodedata.normalize("NFKC", text).lower()
    if _CJK.search(normal):
        return [character for character in normal if not character.isspace()]
    return _WORD.findall(normal)


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence, 0 to 100 (Lin 2004, with beta = 1)."""
    hypothesis, target = units(answer), units(reference)
    if not hypothesis or not target:
        return 0.0
    common = LCSseq.similarity(hypothesis, target)
    return 200.0 * common / (len(hypothesis) + len(target))
