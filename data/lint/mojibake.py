"""Text that was decoded with the wrong encoding, and what it said before.

Latin look-alikes (UTF-8 read as latin-1, cp1252 and their kin) are ftfy's work. The two that Chinese sheets
suffer from are ours: UTF-8 read as GBK (高血压 becomes 楂樿鍘), and GBK read as latin-1 (¸ßÑªÑ¹).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# What decoders leave behind: U+FFFD itself, U+FFFD as UTF-8 read as GBK, uninitialised memory as GBK, and the
# first bytes of UTF-8's quotes and full stops as GBK, two characters that nobody writes; private-use characters,
# which are some font's bullets or an unmapped code.
_LEFT_BEHIND = re.compile("\ufffd|锟斤拷|锟斤|烫烫烫烫|屯屯屯屯|鈥|銆|[\ue000-\uf8ff]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f][^\x00-\x3e\x40-\x7f]*")
_LATIN_RUN = re.compile(
    r"[\x80-\xff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122]{4,}"
)
_SUSPECT_LATIN = re.compile(r"[\x80-\xff]")
_TWO_BYTES = re.compile(r"[\xc2\xc3][\x80-\xbf]")
_COMMON_HAN = re.compile("[\u4e00-\u9fff]")
# Commoner than not in what a repair should give.
_ORDINARY = re.compile("[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef\u2010-\u2027\u00b7a-zA-Z0-9\\s]")
_MIN_RUN = 3


@dataclass(frozen=True)
class Mojibake:
    """The damaged part, and what it probably said ("" where nothing can be made of it)."""

    damaged: str
    repaired: str


def find_mojibake(text: str) -> Mojibake | None:
    """Return the first damage found in `text`, or None."""
    if text.isascii():
        return None
    return _utf8_as_gbk(text) or _left_behind(text) or _gbk_as_latin(text) or _latin(text)


def _left_behind(text: str) -> Mojibake | None:
    match = _LEFT_BEHIND.search(text)
    return Mojibake(match[0], "") if match else None


def _utf8_as_gbk(text: str) -> Mojibake | None:
    for match in _BEYOND_ASCII.finditer(text):
        run = match[0]
        if len(run) < _MIN_RUN or _share_common(run) > 0.5:
            continue
        try:
            raw = run.encode("gb18030")
        except UnicodeEncodeError:
            continue
        repaired, num_bad = _decode_loosely(raw)
        # A byte without a partner has become a question mark or gone, and took its character with it.
        allowed = 2 + 2 * run.count("?")
        readable = repaired.replace("?", "")
        if len(readable) >= 2 and num_bad <= allowed and _share_ordinary(readable) >= 0.9:
            return Mojibake(run, repaired)
    return None


def _gbk_as_latin(text: str) -> Mojibake | None:
    for match in _LATIN_RUN.finditer(text):
        raw = _latin_bytes(match[0])
        if raw is None or len(raw) % 2:
            raw = raw[:-1] if raw else None
        if raw is None:
            continue
        try:
            repaired = raw.decode("gb2312")
        except UnicodeDecodeError:
            continue
        if _COMMON_HAN.search(repaired) and _share_common(repaired) >= 0.75:
            return Mojibake(match[0], repaired)
    return None


def _latin(text: str) -> Mojibake | None:
    if not _SUSPECT_LATIN.search(text):
        return None
    # Imported when needed: most sheets have no such letter.
    import ftfy

    # ftfy leaves a text alone that also has characters which no single mistake explains.
    if match := _TWO_BYTES.search(text):
        return Mojibake(match[0], match[0].encode("latin-1").decode("utf-8"))
    repaired, steps = ftfy.fix_encoding_and_explain(text)
    if steps and any(name == "encode" for name, _ in steps):
        return Mojibake(text.strip(), repaired.strip())
    return None


def _decode_loosely(raw: bytes) -> tuple[str, int]:
    """Decode UTF-8, leaving out what is not; returns the text and the number of bytes left out."""
    repaired = raw.decode("utf-8", errors="ignore")
    return repaired, len(raw) - len(repaired.encode())


def _share_common(text: str) -> float:
    """The share of `text` that is among the 3,755 most common Chinese characters (GB2312, first level)."""
    return sum(map(_common_characters().__contains__, text)) / len(text)


@cache
def _common_characters() -> frozenset[str]:
    rows = (bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return frozenset(b"".join(rows).decode("gb2312", errors="ignore"))


def _share_ordinary(text: str) -> float:
    return len(_ORDINARY.findall(text)) / len(text)


def _latin_bytes(text: str) -> bytes | None:
    try:
        return b"".join(
            bytes([ord(character)]) if ord(character) < 256 else character.encode("cp1252")
            for character in text
        )
    except UnicodeEncodeError:
        return None
