"""A number as people see it: through its cell's format code (ECMA-376 part 1, 18.8.30).

Codes that say how many decimals, thousands, percent, exponent, units and dates are followed. Where a code depends on
the reader's computer (the short date) the text is ISO 8601, the same for everybody. Fractions, conditions and
fill characters are shown as the plain number.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

from data.sheets.model import Kind

# A number's text, and what it is.
Shown = tuple[str, Kind]
Formatter = Callable[[str], Shown]

_BUILT_IN = {
    1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00",
    14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm",
    21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss",
    46: "[h]:mm:ss", 47: "mm:ss.0", 48: "0.0E+0",
    # What Chinese Excel shows for the numbers that each country fills for itself.
    27: 'yyyy"年"m"月"', 28: 'm"月"d"日"', 29: 'm"月"d"日"', 30: "m-d-yy", 31: 'yyyy"年"m"月"d"日"',
    32: 'h"时"mm"分"', 33: 'h"时"mm"分"ss"秒"', 34: 'AM/PMh"时"mm"分"', 35: 'AM/PMh"时"mm"分"ss"秒"',
    36: 'yyyy"年"m"月"', 50: 'yyyy"年"m"月"', 51: 'm"月"d"日"', 52: 'yyyy"年"m"月"', 53: 'm"月"d"日"',
    54: 'm"月"d"日"', 55: 'AM/PMh"时"mm"分"', 56: 'AM/PMh"时"mm"分"ss"秒"', 57: 'yyyy"年"m"月"', 58: 'm"月"d"日"',
}  # fmt: skip

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[(?P<bracket>[^\]]*)\]|_(?P<space>.)|\*(?P<fill>.)'
    r"|(?P<ampm>AM/PM|A/P|上午/下午)|(?P<date>[yY]+|[mM]+|[dD]+|[hH]+|[sS]+(?:\.0+)?|[eEbB]{1,4}(?![+-]))"
    r"|(?P<exponent>[eE][+-]0+)|(?P<digits>[0#?,.]+)|(?P<other>.)",
    re.DOTALL,
)
_ELAPSED = re.compile(r"[hH]+|[mM]+|[sS]+")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LAST_SERIAL = 2_958_465.99999999

Token = tuple[str, str]


def built_in_code(number: int) -> str:
    """Return the code of a built-in format; General for the others."""
    return _BUILT_IN.get(number, "General")


def formatter(code: str, *, from_1904: bool = False) -> Formatter:
    """Return what shows a cell's stored number through `code`; `from_1904` counts days from there (old Macs)."""
    if code.strip().lower() in ("", "general", "@"):
        return general
    sections = [_tokens(section) for section in _sections(code)]
    if any(kind == "date" for kind, _ in sections[0]):
        tokens = _with_minutes(sections[0])
        return lambda stored: _shown_date(tokens, stored, from_1904)
    if not any(kind == "digits" for section in sections for kind, _ in section):
        return general
    return lambda stored: _shown_number(sections, stored)


def general(stored: str) -> Shown:
    """Show a number as a cell without a format does, with up to 15 digits, which is what a cell holds."""
    digits = stored[1:] if stored.startswith("-") else stored
    if digits.isascii() and digits.isdecimal() and len(digits) <= 15:
        return stored, "number"
    try:
        value = float(stored)
    except ValueError:
        return stored, "text"
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value)), "number"
    return f"{value:.15g}".replace("e+", "E+").replace("e-", "E-"), "number"


def _sections(code: str) -> list[str]:
    """Split at the semicolons that stand outside quotes."""
    parts = [""]
    for piece in re.findall(r'"[^"]*"|\\.|\[[^\]]*\]|.', code, re.DOTALL):
        if piece == ";":
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _tokens(section: str) -> list[Token]:
    found: list[Token] = []
    for match in _TOKEN.finditer(section):
        kind, text = match.lastgroup or "", match[match.lastgroup or 0]
        if kind == "bracket":
            if _ELAPSED.fullmatch(text):
                found.append(("date", f"[{text.lower()}]"))
            elif text.startswith("$"):
                found.append(("literal", text[1:].partition("-")[0]))
            elif text[:1] in "<>=":
                return [("plain", "")]
        elif kind in ("quoted", "escaped", "other"):
            if kind == "other" and text in "/?" and any(known == "digits" for known, _ in found):
                return [("plain", "")]
            found.append(("percent" if kind == "other" and text == "%" else "literal", text))
        elif kind == "space":
            found.append(("literal", " "))
        elif kind == "date":
            found.append(("date", text.lower()))
        elif kind in ("digits", "exponent", "ampm"):
            found.append((kind, text))
    if any(kind == "date" for kind, _ in found):
        # In a date a dot or comma between parts is itself.
        found = [("literal", text) if kind == "digits" else (kind, text) for kind, text in found]
    elif section.strip().lower() == "general":
        return [("plain", "")]
    return found


def _with_minutes(tokens: list[Token]) -> list[Token]:
    """Tell minutes from months: m is a minute right after an hour or right before a second."""
    places = [place for place, (kind, _) in enumerate(tokens) if kind == "date"]
    told = list(tokens)
    for index, place in enumerate(places):
        if tokens[place][1] not in ("m", "mm"):
            continue
        before = tokens[places[index - 1]][1] if index else ""
        after = tokens[places[index + 1]][1] if index + 1 < len(places) else ""
        if before.strip("[]").startswith("h") or after.startswith("s"):
            told[place] = ("date", "minute" * len(tokens[place][1]))
    return told


def _shown_date(tokens: list[Token], stored: str, from_1904: bool) -> Shown:
    try:
        serial = float(stored)
    except ValueError:
        return stored, "text"
    if not 0 <= serial <= _LAST_SERIAL - (1462 if from_1904 else 0):
        return general(stored)
    if from_1904:
        first = datetime.datetime(1904, 1, 1)
    else:
        # Serial 60 is a 29 February 1900 that never was; before it the count is one day off.
        first = datetime.datetime(1899, 12, 30) if serial >= 60 else datetime.datetime(1899, 12, 31)
    needs_fraction = any(kind == "date" and "." in text for kind, text in tokens)
    seconds = round(serial * 86_400, 3 if needs_fraction else 0)
    try:
        moment = first + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return general(stored)
    half_day = any(kind == "ampm" for kind, _ in tokens)
    shown = [
        _date_part(text, moment, seconds, half_day)
        if kind == "date"
        else (_half(text, moment) if kind == "ampm" else text)
        for kind, text in tokens
    ]
    return "".join(shown).strip(), "date"


def _half(text: str, moment: datetime.datetime) -> str:
    before, _, after = text.partition("/")
    return before if moment.hour < 12 else after


def _date_part(text: str, moment: datetime.datetime, seconds: float, half_day: bool) -> str:
    hour = (moment.hour % 12 or 12) if half_day else moment.hour
    whole = int(seconds)
    if text.startswith("["):
        total = {"h": whole // 3600, "m": whole // 60, "s": whole}[text[1]]
        return str(total).zfill(len(text) - 2)
    if text.startswith("s"):
        name, _, decimals = text.partition(".")
        fraction = f".{moment.microsecond:06d}"[: len(decimals) + 1] if decimals else ""
        return str(moment.second).zfill(len(name)) + fraction
    parts = {
        "y": f"{moment.year % 100:02d}", "yy": f"{moment.year % 100:02d}", "e": str(moment.year),
        "m": str(moment.month), "mm": f"{moment.month:02d}", "mmm": _MONTHS[moment.month - 1],
        "mmmmm": _MONTHS[moment.month - 1][0], "d": str(moment.day), "dd": f"{moment.day:02d}",
        "ddd": _WEEKDAYS[moment.weekday()][:3], "dddd": _WEEKDAYS[moment.weekday()],
        "h": str(hour), "hh": f"{hour:02d}", "minute": str(moment.minute), "minuteminute": f"{moment.minute:02d}",
    }  # fmt: skip
    if text == "mmmm":
        return moment.strftime("%B")
    return parts.get(text, str(moment.year))


def _shown_number(sections: list[list[Token]], stored: str) -> Shown:
    try:
        value = Decimal(stored)
    except ArithmeticError:
        return stored, "text"
    if not value.is_finite() or abs(value.adjusted()) > 300:
        return general(stored)
    # Up to three sections: positive, negative, zero; a number's own sign shows only through the first.
    section = sections[0]
    if value < 0 and len(sections) > 1:
        section, value = sections[1], -value
    elif value == 0 and len(sections) > 2:
        section = sections[2]
    if any(kind == "plain" for kind, _ in section):
        return general(format(value, "f"))
    value = Decimal(f"{value:.15g}")
    if any(kind == "percent" for kind, _ in section):
        value *= 100
    return _filled(section, value), "number"


def _filled(section: list[Token], value: Decimal) -> str:
    """Put a number into the section's digits; further digits than the first run's are dropped."""
    exponent = next((text for kind, text in section if kind == "exponent"), "")
    shown, done = [], False
    for kind, text in section:
        if kind == "digits":
            shown.append("" if done else _digits(text, value, exponent))
            done = True
        elif kind in ("literal", "percent"):
            shown.append(text)
    negative = value < 0 and any(character in "123456789" for character in "".join(shown))
    return ("-" if negative else "") + "".join(shown).strip()


def _digits(text: str, value: Decimal, exponent: str) -> str:
    whole, point, decimals = text.partition(".")
    thousands = "," in whole.rstrip(",")
    value = abs(value) / 1000 ** (len(whole) - len(whole.rstrip(",")) if not point else 0)
    decimals = decimals.replace(",", "")
    if exponent:
        power = value.adjusted() if value else 0
        mantissa = (value.scaleb(-power)).quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
        sign = "-" if power < 0 else ("+" if exponent[1] == "+" else "")
        return f"{mantissa}E{sign}{abs(power):0{len(exponent) - 2}d}"
    rounded = value.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    integer, _, fraction = format(rounded, "f").partition(".")
    least = decimals.rstrip("#")
    while len(fraction) > len(least) and fraction.endswith("0"):
        fraction = fraction[:-1]
    integer = integer.lstrip("0").zfill(whole.count("0"))
    if thousands and integer:
        integer = f"{int(integer):,}" if len(integer) >= whole.replace(",", "").count("0") else integer
    return integer + ("." + fraction if fraction or (point and least) else "")
