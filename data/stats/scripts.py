"""Which writing a text is in, told by its characters; enough to see that a sheet mixes languages.

A script is not a language: English and Vietnamese are both Latin here.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

Script = Literal[
    "Chinese",
    "Japanese",
    "Korean",
    "Latin",
    "Cyrillic",
    "Arabic",
    "Thai",
    "Devanagari",
    "Greek",
    "Hebrew",
    "mixed",
    "none",
]

_SCRIPTS: dict[Script, re.Pattern[str]] = {
    "Chinese": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"),
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Korean": re.compile("[\uac00-\ud7af\u1100-\u11ff]"),
    "Latin": re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+"),
    "Cyrillic": re.compile("[\u0400-\u04ff]+"),
    "Arabic": re.compile("[\u0600-\u06ff]+"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
    "Devanagari": re.compile("[\u0900-\u097f]+"),
    "Greek": re.compile("[\u0370-\u03ff]+"),
    "Hebrew": re.compile("[\u0590-\u05ff]+"),
}
# What the largest script must have of a text; a Chinese text with a drug's Latin name stays Chinese.
_MAJORITY = 0.6


def script_of(text: str) -> Script:
    """Return the script of most of a text, counting a CJK character or a word of another script as one."""
    counts: Counter[Script] = Counter()
    for script, pattern in _SCRIPTS.items():
        if num := sum(1 for _ in pattern.finditer(text)):
            counts[script] = num
    if counts["Japanese"]:
        # Kana decide; the Han characters beside them are Japanese too.
        counts["Japanese"] += counts.pop("Chinese", 0)
    if not counts:
        return "none"
    script, num = counts.most_common(1)[0]
    return script if num >= _MAJORITY * counts.total() else "mixed"
