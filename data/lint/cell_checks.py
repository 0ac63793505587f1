"""Faults that one cell shows by itself: characters that do not belong, and text that is no text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from data.lint.findings import Finding, Kind, Severity
from data.lint.mojibake import find_mojibake
from data.lint.table import Line, Table
from data.records import normalised
from data.wording import words

# Excel's own errors, as the cell shows them.
_ERROR_VALUE = re.compile(
    r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!|SPILL!|CALC!|GETTING_DATA|FIELD!|BLOCKED!|CONNECT!|UNKNOWN!)"
)

# Compared after `normalised`, without the punctuation around them. The first say that nothing was ever entered;
# the second may be an answer (有副作用吗: 无), and are doubtful rather than wrong.
_NOTHING_ENTERED = frozenset({
    "n/a", "n.a", "nan", "null", "nil", "tbd", "tbc", "todo", "to do", "fixme", "xxx", "placeholder", "pending",
    "lorem ipsum", "to be determined", "to be done", "to be added", "fill in", "coming soon",
    "待补充", "待定", "待填", "待完善", "待更新", "待确认", "待添加", "未填", "未填写",
    "缺失", "占位", "占位符", "测试", "空", "空白",
})  # fmt: skip
_PERHAPS_NOTHING = frozenset({
    "na", "none", "unanswerable", "unknown", "no answer", "no answers", "not answered", "not available",
    "not applicable", "same as above", "ditto", "no data",
    "无", "暂无", "未知", "没有", "不详", "略", "同上", "无答案", "暂无答案", "没有答案", "无法回答", "暂无数据",
    "无数据",
})  # fmt: skip
_PLACEHOLDER_MAX_CHARACTERS = 60

# Excel writes a control character as _x0007_; openpyxl leaves the seven characters as they are.
_ESCAPED_CONTROL = re.compile(r"_x00(0[0-8BCEFbcef]|1[0-9A-Fa-f]|7[Ff])_|_x000[Dd]_")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_MARKUP = re.compile(
    r"&(?:nbsp|lt|gt|amp|quot|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
    r"|</?(?:p|br|div|span|b|i|u|strong|em|ul|ol|li|a|img|font|table|t[rdh]|h[1-6])(?:\s[^<>]*)?/?>"
)
_LABEL = {
    "Q": re.compile(r"\s*(?:[Qq](?:uestion)?\s*\d*|问题?|提问)\s*[:：]"),
    "A": re.compile(r"\s*(?:[Aa](?:nswer)?\s*\d*|答案?|回答|回复)\s*[:：]"),
}
_UNFINISHED = re.compile(r"[,，、:：(（\[【《“‘]\s*$")
_EXCEL_MAX_CHARACTERS = 32_767
_SHOWN_CHARACTERS = 60

_BLANK_KIND: dict[str, Kind] = {"Q": "blank-question", "A": "blank-answer"}


def check_cells(table: Table) -> Iterator[Finding]:
    """Yield the faults of each cell by itself; a blank info cell only where its column is mostly filled."""
    sparse = {name for name in table.columns if name not in _BLANK_KIND and _is_sparse(table, name)}
    for line in table.lines:
        for field in table.columns:
            if line.cells[field].strip():
                yield from _check_text(table, line, field)
            elif table.cell(line, field) in table.uncached:
                yield finding(
                    table,
                    line,
                    field,
                    "no-cached-value",
                    "error",
                    "a formula without a value; open the workbook in Excel or LibreOffice, recalculate and save",
                )
            elif field in _BLANK_KIND:
                yield finding(
                    table,
                    line,
                    field,
                    _BLANK_KIND[field],
                    "error",
                    f"empty {field!r}; fill it or remove the row",
                )
            elif field not in sparse:
                yield finding(
                    table, line, field, "blank-info", "warning", f"empty {field!r}; most rows have one"
                )


def finding(
    table: Table,
    line: Line,
    field: str,
    kind: Kind,
    severity: Severity,
    message: str,
    *,
    related: str = "",
) -> Finding:
    """Return a finding about one cell of a line, with the beginning of its text."""
    text = shown(line.cells[field])
    return Finding(kind, severity, table.sheet, table.cell(line, field), field, message, text, related)


def shown(text: str, length: int = _SHOWN_CHARACTERS) -> str:
    """Return the beginning of a text on one line, in printable characters only."""
    printable = "".join(
        character if unicodedata.category(character)[0] not in "CZ" or character == " " else " "
        for character in text[: length * 4]
    )
    folded = " ".join(printable.split())
    return folded if len(folded) <= length else folded[: length - 1] + "…"


def is_text(text: str) -> bool:
    """Tell whether a Q or A holds text: it is not blank, no placeholder and no error of Excel's."""
    bare = text.strip()
    return bool(bare) and not _ERROR_VALUE.fullmatch(bare) and _placeholder_severity(bare, "A") is None


def _is_sparse(table: Table, field: str) -> bool:
    blank = sum(not line.cells[field].strip() for line in table.lines)
    return blank * 2 > len(table.lines)


def _check_text(table: Table, line: Line, field: str) -> Iterator[Finding]:
    text = line.cells[field]
    if match := _ERROR_VALUE.fullmatch(text.strip()):
        yield finding(table, line, field, "error-value", "error", f"the formula gives {match[0]}; correct it")
        return
    if severity := _placeholder_severity(text, field):
        yield finding(
            table,
            line,
            field,
            "placeholder",
            severity,
            f"{shown(text, 30)!r} stands for no text; fill it or remove the row",
        )
        return
    if damage := find_mojibake(text):
        meant = (
            f"; probably {shown(damage.repaired, 30)!r}"
            if damage.repaired
            else "; restore it from its source"
        )
        yield finding(
            table,
            line,
            field,
            "mojibake",
            "error",
            f"decoded with the wrong encoding: {shown(damage.damaged, 30)!r}{meant}",
        )
    elif match := _CONTROL.search(text) or _ESCAPED_CONTROL.search(text):
        code = match[0] if len(match[0]) > 1 else f"U+{ord(match[0]):04X}"
        yield finding(
            table, line, field, "control-character", "warning", f"control character {code}; remove it"
        )
    if match := _INVISIBLE.search(text):
        yield finding(
            table,
            line,
            field,
            "invisible-character",
            "info",
            f"invisible character U+{ord(match[0]):04X}; remove it",
        )
    if match := _MARKUP.search(text):
        yield finding(table, line, field, "markup", "warning", f"markup {match[0]!r}; keep its text only")
    if text != text.strip():
        yield finding(table, line, field, "outer-space", "info", "white space before or after the text")
    if field in _LABEL and (match := _LABEL[field].match(text)):
        yield finding(
            table,
            line,
            field,
            "label",
            "warning",
            f"begins with the label {match[0].strip()!r}; the column says so",
        )
    if len(text) >= _EXCEL_MAX_CHARACTERS:
        yield finding(
            table,
            line,
            field,
            "cut-off",
            "error",
            f"{len(text)} characters, the most that a cell holds; probably cut",
        )
    elif field == "A" and (match := _UNFINISHED.search(text)):
        yield finding(
            table, line, field, "cut-off", "warning", f"ends with {match[0].strip()!r}; probably cut"
        )


def _placeholder_severity(text: str, field: str) -> Severity | None:
    if len(text) > _PLACEHOLDER_MAX_CHARACTERS:
        return None
    bare = normalised(text).strip(" .。!！?？-—_*…·/\\()（）[]【】<>")
    if field in ("Q", "A"):
        if not bare or bare in _NOTHING_ENTERED or not any(character.isalnum() for character in bare):
            return "error"
        return "warning" if bare in _PERHAPS_NOTHING else None
    return "warning" if not bare or bare in _NOTHING_ENTERED or not words(bare) else None
