"""Amounts in Chinese and English text: a number, in digits or in words, with the unit it is given in.

Spellings of a unit are folded (毫克 is mg), and masses, volumes and weeks are converted, so that 0.5 g is 500 mg.
Pure text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.records import normalised

_UNITS = {
    "mg": "毫克|mgs?|milligrams?",
    "µg": "微克|[uµμ]g|mcg|micrograms?",
    "kg": "公斤|千克|kgs?|kilograms?|kilos?",
    "g": "克|g|grams?",
    "ml": "毫升|mls?|cc|millilit(?:er|re)s?",
    "l": "升|lit(?:er|re)s?|l",
    "mmol/l": "mmol/l|毫摩尔(?:/升|每升)?",
    "mmhg": "mm ?hg|毫米汞柱",
    "iu": "国际单位|单位|iu|units?",
    "%": "%|％|percent",
    "°c": "℃|°c|摄氏度|度|degrees?",
    "tablet": "片|tablets?|tabs?|pills?",
    "capsule": "粒|capsules?|caps?",
    "time": "次|回|times?|doses?",
    "second": "秒钟?|seconds?|secs?",
    "minute": "分钟|minutes?|mins?",
    "hour": "个?小时|个?钟头|hours?|hrs?|h",
    "day": "天|日|days?",
    "week": "周(?!岁)|个?星期|个?礼拜|weeks?|wks?",
    "month": "个?月|months?",
    "year": "年|years?|yrs?",
    "age": "周?岁",
    "cm": "厘米|公分|cm|centimet(?:er|re)s?",
    "mm": "毫米|mm|millimet(?:er|re)s?",
    "m": "米|met(?:er|re)s?",
    "kcal": "千卡|大卡|kcal|calories",
    "yuan": "元|块钱?|yuan|rmb",
    "fold": "倍|fold",
    "sachet": "袋|包|sachets?",
    "drop": "滴|drops?",
    "piece": "支|瓶|盒|ampoules?|bottles?",
}
_UNIT_NAMES = {unit: re.compile(spellings, re.IGNORECASE) for unit, spellings in _UNITS.items()}
_UNIT = "|".join(_UNITS.values())
_CONVERTED = {
    "µg": ("mg", 0.001),
    "g": ("mg", 1000.0),
    "kg": ("mg", 1e6),
    "l": ("ml", 1000.0),
    "week": ("day", 7.0),
}

_ENGLISH = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "half": 0.5,
}  # fmt: skip
_DIGITS = {"零": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_TENS = {"十": 10, "百": 100, "千": 1000}

_DIGITAL = r"\d+(?:,\d{3})*(?:\.\d+)?"
_SPELT = "半|[零一二两三四五六七八九十百千]+|" + "|".join(rf"\b{word}\b" for word in _ENGLISH)
_RANGE = r"\s*(?:-|–|—|~|/|至|到|\bto\b|\bor\b|或)\s*"
_AMOUNT = re.compile(
    rf"(?<![\w.])(?P<once>once|twice)\b|"
    rf"(?P<low>(?<![a-z\d.]){_DIGITAL}|{_SPELT})(?:{_RANGE}(?P<high>{_DIGITAL}|{_SPELT}))?\s*-?\s*"
    rf"(?P<unit>{_UNIT})(?![a-z])|"
    rf"(?P<bare>(?<![a-z\d.\-/]){_DIGITAL})(?![\d.]*\d)",
    re.IGNORECASE,
)
# "1. " and "(2)" and "3、" number the items of a list.
_LIST_NUMBER = re.compile(r"(?:^|(?<=[\n。；;]))\s*[(（]?\d{1,2}(?:[、)）]|\.(?!\d))", re.MULTILINE)


@dataclass(frozen=True)
class Amount:
    """A number with its unit, folded and converted; "" where it has none."""

    value: float
    unit: str


def amounts(text: str) -> list[Amount]:
    """Return the amounts of a text in order; a range gives its two ends."""
    found = []
    for match in _AMOUNT.finditer(_LIST_NUMBER.sub(" ", normalised(text))):
        if once := match["once"]:
            found.append(Amount(1.0 if once == "once" else 2.0, "time"))
        elif bare := match["bare"]:
            found.append(Amount(_value(bare), ""))
        else:
            unit, factor = _folded(match["unit"])
            ends = (_value(end) for end in (match["low"], match["high"]) if end)
            found += [Amount(round(end * factor, 9), unit) for end in ends]
    return found


def without_amounts(text: str) -> str:
    """Return the normalised text with a blank in place of each amount."""
    return _AMOUNT.sub(" ", _LIST_NUMBER.sub(" ", normalised(text)))


def _folded(unit: str) -> tuple[str, float]:
    """Return the unit that a spelling is counted in, and its size in that."""
    name = next(name for name, spellings in _UNIT_NAMES.items() if spellings.fullmatch(unit))
    return _CONVERTED.get(name, (name, 1.0))


def _value(number: str) -> float:
    if number[0].isdigit() and number[0] not in _DIGITS:
        return float(number.replace(",", ""))
    if number in _ENGLISH:
        return _ENGLISH[number]
    return 0.5 if number == "半" else _chinese(number)


def _chinese(number: str) -> float:
    """Return the value of a numeral up to 9,999; digits in a row (二零) are read as digits."""
    if not any(character in _TENS for character in number):
        return float("".join(str(_DIGITS[character]) for character in number))
    total = digit = 0
    for character in number:
        if character in _TENS:
            total += (digit or 1) * _TENS[character]
            digit = 0
        else:
            digit = _DIGITS[character]
    return float(total + digit)
