"""Facts that an answer keeps, drops or turns round."""

from __future__ import annotations

import pytest

from benchmarks.measures.amounts import Amount, amounts
from benchmarks.measures.facts import FactCount, compare_facts
from benchmarks.measures.medicines import names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("每天两次，每次500毫克", [(2, "time"), (500, "mg")]),
        ("take 5-10 mg twice a day", [(5, "mg"), (10, "mg"), (2, "time")]),
        ("连用二十一天或3个月", [(21, "day"), (3, "month")]),
        ("1. 多喝水；2、盐少于6克", [(6000, "mg")]),
        ("3周岁以上服两周", [(3, "age"), (14, "day")]),
        ("1,500 mL of water within two hours", [(1500, "ml"), (2, "hour")]),
        ("血压低于140/90mmHg", [(140, "mmhg"), (90, "mmhg")]),
        ("一般十分常见，一定要注意", []),
        ("半小时后测体温38.5℃", [(0.5, "hour"), (38.5, "°c")]),
        ("vitamin b12 and covid-19", []),
    ],
)
def test_amounts(text: str, expected: list[tuple[float, str]]) -> None:
    assert amounts(text) == [Amount(value, unit) for value, unit in expected]


def test_names_are_latin_words_in_chinese_and_medicines_by_their_stem() -> None:
    assert names("服用阿托伐他汀或Lipitor，查HBV-DNA") == {"托伐他汀", "lipitor", "hbv-dna"}
    assert names("Take amoxicillin and losartan with water") == {"amoxicillin", "losartan"}


@pytest.mark.parametrize(
    ("answer", "kept", "contradicted"),
    [
        ("每天服用两次", 1, 0),
        ("一天2次，饭后服用", 1, 0),
        ("每天服用三次", 0, 1),
        ("饭后服用", 0, 0),
        ("血压要每天测量三次", 0, 0),
    ],
)
def test_an_amount_is_kept_contradicted_or_left_out(answer: str, kept: int, contradicted: int) -> None:
    assert compare_facts(answer, "每日服用两次").amounts == FactCount(1, kept, contradicted)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("孕妇禁止服用布洛芬。", "孕妇不能服用布洛芬。", (1, 1, 0)),
        ("孕妇可以服用布洛芬。", "孕妇不能服用布洛芬。", (1, 0, 1)),
        ("多喝水。", "孕妇不能服用布洛芬。", (1, 0, 0)),
        ("可以适量饮酒。", "不要饮酒。", (1, 0, 1)),
        ("饮酒会加重病情。", "不要饮酒。", (1, 0, 0)),
        ("特别要多喝水。", "要多喝水。", (0, 0, 0)),
        ("不仅可以饮酒。", "可以饮酒，也可以喝茶。", (0, 0, 0)),
        ("高血压患者不能喝咖啡。", "高血压患者可以喝咖啡。", (0, 0, 1)),
        ("You should take ibuprofen with alcohol.", "Do not take ibuprofen with alcohol.", (1, 0, 1)),
        ("Never take ibuprofen with alcohol!", "Do not take ibuprofen with alcohol.", (1, 1, 0)),
    ],
)
def test_a_prohibition(answer: str, reference: str, expected: tuple[int, int, int]) -> None:
    assert compare_facts(answer, reference).prohibitions == FactCount(*expected)


def test_the_three_kinds_together() -> None:
    facts = compare_facts("阿莫西林每次500毫克，服用七天", "阿莫西林每次0.5克，服用三天，不要饮酒")
    assert facts.all == FactCount(4, 2, 1)
    assert facts.all.kept_share == 0.5
    assert compare_facts("好", "好").all.kept_share is None
