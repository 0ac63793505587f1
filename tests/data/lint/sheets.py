"""A sheet without a fault, and one with a known fault in known cells."""

from __future__ import annotations

from pathlib import Path

from openpyxl import Workbook

HEADER = ["info_1", "info_2", "Q", "A"]

_TOPICS = ["登录", "发票", "退货", "物流", "会员", "积分", "优惠券", "售后"]
CLEAN = [
    [topic, aspect, question.format(topic), answer.format(topic)]
    for topic in _TOPICS
    for aspect, question, answer in [
        ("入口", "{}的入口在哪里", "打开应用首页，点右上角的头像，再点“{}”就能看到；网页版在左侧菜单里。"),
        ("时间", "{}一般要等多久", "提交{}申请后，工作日内二十四小时有结果，节假日顺延；超时可以在线催办。"),
        (
            "条件",
            "哪些情况不能办理{}",
            "账号被冻结、信息没有填完整或者超过期限时，系统不受理{}，补齐后再提交即可。",
        ),
    ]
]


def clean_sheet(path: Path) -> Path:
    """Write 24 rows without a fault; rows 2 to 25."""
    return _save(path, [list(row) for row in CLEAN])


# Kind of fault: the cell that it is planted in.
PLANTED = {
    "blank-question": "C2",
    "blank-answer": "D3",
    "blank-info": "A4",
    "too-short": "D5",
    "too-long": "D6",
    "no-cached-value": "D7",
    "near-duplicate": "C9",
    "duplicate-question": "C11",
    "conflicting-answers": "D13",
    "answer-is-question": "D14",
    "mojibake": "D15",
    "control-character": "D16",
    "error-value": "D17",
    "placeholder": "D18",
    "markup": "D19",
    "cut-off": "D20",
    "label": "C21",
    "outer-space": "C22",
    "invisible-character": "C23",
    "constant-column": "B1",
}


def faulty_sheet(path: Path) -> Path:
    """Write the clean sheet with one fault of each kind of `PLANTED`."""
    rows: list[list[object]] = [list(row) for row in CLEAN]

    def cell(name: str) -> tuple[list[object], int]:
        return rows[int(name[1:]) - 2], "ABCD".index(name[0])

    def put(name: str, value: object) -> None:
        row, place = cell(name)
        row[place] = value

    def text(name: str) -> str:
        row, place = cell(name)
        return str(row[place])

    for row in rows:
        row[1] = "帮助"
    put("C2", None)
    put("D3", "  ")
    put("A4", None)
    put("D5", "好")
    put("D6", "请按说明一步一步操作。" * 1_000)
    put("D7", "=CONCATENATE(A7,B7)")
    put("A9", text("A8"))
    put("C9", "请问" + text("C8") + "呢？")
    put("D9", text("D8"))
    put("A11", text("A10"))
    put("C11", text("C10"))
    put("D11", text("D10"))
    put("A13", text("A12"))
    put("C13", text("C12"))
    put("D14", text("C14") + "？")
    put("D15", text("D15").encode().decode("latin-1"))
    put("D16", text("D16") + "_x0007_")
    put("D17", "#REF!")
    put("D18", "待补充")
    put("D19", "<p>" + text("D19") + "</p>")
    put("D20", text("D20")[:-1] + "，")
    put("C21", "问：" + text("C21"))
    put("C22", " " + text("C22"))
    put("C23", text("C23") + "\u200b")
    return _save(path, rows)


def _save(path: Path, rows: list[list[object]]) -> Path:
    book = Workbook()
    sheet = book.active
    sheet.title = "知识"
    for row in [HEADER, *rows]:
        sheet.append(row)
    book.save(path)
    return path
