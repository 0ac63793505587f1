"""Rows for tests: two neighbours about one illness, one about another, one in English."""

from __future__ import annotations

from data.records import Row, revision_of, row_id_of


def row(info_1: str, info_2: str, question: str, answer: str, place: int = 2) -> Row:
    """A row as a workbook would give it."""
    return Row(
        row_id=row_id_of(info_1, info_2, question),
        revision=revision_of(answer),
        info_1=info_1,
        info_2=info_2,
        question=question,
        answer=answer,
        source=f"表.xlsx#知识库!C{place}",
    )


SALT = row("高血压", "饮食", "高血压病人一天能吃多少盐", "食盐每天不超过5克，少吃加工食品，多吃新鲜蔬果。", 2)
STOP = row(
    "高血压", "用药", "血压正常了能停降压药吗", "不要自行停药，突然停药会使血压反弹，增加脑卒中的风险。", 3
)
COLD = row("感冒", "护理", "感冒了怎么办", "多喝温水，注意休息，发热超过三天应及时就医。", 4)
ASPIRIN = row(
    "aspirin", "dose", "How much aspirin may I take?", "Adults may take 325 mg every four hours with food.", 5
)
ROWS = (SALT, STOP, COLD, ASPIRIN)
