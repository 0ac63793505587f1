"""Which column of a sheet is which field: from --map, or from headers that people commonly use.

Knows headers only; rows and files are the workbook's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.errors import InputError
from data.records import normalised

FIELDS = ("info_1", "info_2", "Q", "A")
REQUIRED = ("Q", "A")

# Compared after `normalised`. A field's own name wins over its aliases, so that a sheet may have both
# `Q` and `问题`; two aliases of one field make the sheet ambiguous.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "info_1": (
        "info1", "类别", "分类", "大类", "一级分类", "一级类目", "科室", "科目", "主题", "疾病", "病种", "产品", "模块",
        "category", "topic", "subject", "product", "department", "disease", "focus",
    ),
    "info_2": (
        "info2", "子类", "小类", "子分类", "二级分类", "二级类目", "方面", "类型", "问题类型", "问题类别", "标签",
        "subcategory", "sub-category", "subtopic", "type", "question type", "aspect", "tag",
    ),
    "Q": (
        "question", "questions", "query", "问题", "问", "提问", "用户问题", "标准问", "标准问题", "问句", "咨询内容",
    ),
    "A": (
        "answer", "answers", "response", "reply", "答案", "答", "回答", "回复", "解答", "标准答案", "答复", "回复内容",
    ),
}  # fmt: skip


def resolve_columns(headers: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, int]:
    """Return the column index (0-based) of each field that the sheet has.

    Args:
        headers: the header row's cells, "" where blank.
        mapping: field to header, as given by --map; it wins over recognition.
        where: names the sheet in errors.

    Raises:
        InputError: Q or A is not found, two headers could be the same field, or a mapped header is not there.
    """
    normal = [normalised(header) for header in headers]
    columns: dict[str, int] = {}
    for field, header in mapping.items():
        places = [place for place, name in enumerate(normal) if name == normalised(header)]
        if len(places) != 1:
            trouble = "no column" if not places else f"{len(places)} columns"
            raise InputError(f"{where}: --map {field}={header}: {trouble} of that name; {_listing(headers)}")
        columns[field] = places[0]
    for field in FIELDS:
        if field not in columns:
            place = _recognise(field, normal, set(columns.values()), headers, where)
            if place is not None:
                columns[field] = place
    missing = [field for field in REQUIRED if field not in columns]
    if missing:
        shown = " ".join(f"--map {field}='HEADER'" for field in missing)
        raise InputError(
            f"{where}: no column recognised as {' or '.join(missing)}; {_listing(headers)}; say which: {shown}"
        )
    return columns


def _recognise(
    field: str, normal: Sequence[str], taken: set[int], headers: Sequence[str], where: str
) -> int | None:
    # Last, headers that explain themselves in brackets, as in `Focus (Drug)`.
    bare = [_BRACKETS.sub("", name) for name in normal]
    for names, told in (((normalised(field),), normal), (ALIASES[field], normal), (ALIASES[field], bare)):
        places = [place for place, name in enumerate(told) if name in names and place not in taken]
        if len(places) > 1:
            rivals = " and ".join(repr(headers[place]) for place in places)
            raise InputError(
                f"{where}: {rivals} could each be {field}; {_listing(headers)}; "
                f"say which: --map '{field}={headers[places[0]]}'"
            )
        if places:
            return places[0]
    return None


def _listing(headers: Sequence[str]) -> str:
    return "headers: " + ", ".join(repr(header) for header in headers if header)


_BRACKETS = re.compile(r"\s*\([^()]*\)$")
STATUS_HEADERS = ("状态", "审核状态", "status", "review")
APPROVED = ("通过", "已通过", "已审", "审核通过", "批准", "approved", "ok", "yes")
_PENDING = ("待审", "待审核", "pending")
# Beside a status column, what only a sheet of `data generate` has, and what only one of `rag inbox` has: there the
# answer is blank until a person writes it.
_DRAFT_HEADER = "span"
_INBOX_HEADER = "问法"


@dataclass(frozen=True)
class Review:
    """A column that says which rows a person has approved.

    In a sheet of drafts only approved rows are taken; elsewhere, where 状态 may mean anything, all but those that
    plainly await review.
    """

    column: int
    is_of_drafts: bool

    def approves(self, status: str) -> bool:
        """Tell whether a row of this status may be taken."""
        told = normalised(status)
        return told in APPROVED if self.is_of_drafts else told not in _PENDING


def find_review(headers: Sequence[str]) -> Review | None:
    """Return the review column of a header row, if it has one."""
    normal = [normalised(header) for header in headers]
    if _INBOX_HEADER in normal:
        return None
    for place, name in enumerate(normal):
        if name in STATUS_HEADERS:
            return Review(place, _DRAFT_HEADER in normal)
    return None


def has_required(headers: Sequence[str], mapping: Mapping[str, str]) -> bool:
    """Tell whether a row of cells could be the header row: it names Q and A, or what they are mapped to."""
    normal = {normalised(header) for header in headers}
    for field in REQUIRED:
        names = {normalised(mapping[field])} if field in mapping else {normalised(field), *ALIASES[field]}
        if not normal & names:
            return False
    return True
