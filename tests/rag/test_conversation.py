from __future__ import annotations

import time

import pytest

from data.records import Row
from rag.conversation import search_text
from rag.subjects import Subjects, subjects_of
from tests.rag.rows import row

# A clinic's sheet (subject in info_1), a shop's (subject in info_2, department in info_1), an English one.
CLINIC = [
    row(subject, aspect, f"{subject}{question}", f"{subject}的{aspect}请听医生的。")
    for subject in ("高血压", "2型糖尿病", "妊娠期糖尿病", "痛风", "支气管哮喘", "带状疱疹")
    for aspect, question in (("饮食", "能吃什么"), ("用药", "吃什么药"), ("预防", "怎么预防"))
]
SHOP = [
    row(department, product, f"{product}{question}", "请看说明书。")
    for department, product in (("家电部", "扫地机器人"), ("家电部", "空气炸锅"), ("数码部", "蓝牙耳机"))
    for question in ("怎么充电", "保修几年", "坏了怎么退货", "有几种颜色")
]
ENGLISH = [
    row(drug, aspect, f"{question} {drug}?", "Ask your pharmacist.")
    for drug in ("metformin", "warfarin", "shingles vaccine", "flu vaccine")
    for aspect, question in (
        ("dose", "what is the dose of"),
        ("side effects", "what are the side effects of"),
    )
]


@pytest.mark.parametrize(
    ("rows", "asked", "expected"),
    [
        (CLINIC, ["高血压有什么症状", "那饮食方面呢？"], "高血压 那饮食方面呢？"),
        (CLINIC, ["我爸有痛风，脚疼", "能喝啤酒吗"], "痛风 能喝啤酒吗"),
        (CLINIC, ["痛风能治好吗", "那饮食呢", "还有用药方面呢"], "痛风 还有用药方面呢"),
        (CLINIC, ["带状疱疹疼吗", "它会传染给孩子吗"], "带状疱疹 它会传染给孩子吗"),
        (CLINIC, ["糖尿病能吃西瓜吗", "为什么"], "糖尿病 为什么"),
        (CLINIC, ["高血压能吃什么", "那痛风呢？"], "那痛风呢？ 能吃什么"),
        (SHOP, ["扫地机器人保修几年", "怎么充电"], "扫地机器人 怎么充电"),
        (SHOP, ["扫地机器人保修几年", "那蓝牙耳机呢"], "那蓝牙耳机呢 保修几年"),
        (SHOP, ["空气炸锅怎么退货", "颜色方面呢"], "空气炸锅 颜色方面呢"),
        (
            ENGLISH,
            ["What is the dose of metformin?", "What about side effects?"],
            "metformin What about side effects?",
        ),
        (ENGLISH, ["Is warfarin safe?", "Can I take it with food?"], "warfarin Can I take it with food?"),
        (ENGLISH, ["What is the dose of metformin?", "And warfarin?"], "And warfarin? what is the dose of ?"),
    ],
)
def test_a_follow_up_takes_its_subject_or_its_question_from_before(
    rows: list[Row], asked: list[str], expected: str
) -> None:
    assert search_text(asked, subjects_of(rows)) == expected


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        (CLINIC, ["高血压能吃什么", "痛风能喝酒吗"]),
        (CLINIC, ["高血压能吃什么", "那糖尿病饮食上要注意哪些"]),
        (CLINIC, ["高血压能吃什么", "血糖高的人可以吃西瓜吗"]),
        (CLINIC, ["高血压能吃什么", "我妈妈今年七十岁了最近总是头晕那她平时饮食上应该注意些什么"]),
        (CLINIC, ["今天天气怎么样", "高血压能吃什么"]),
        (CLINIC, ["高血压能吃什么"]),
        (SHOP, ["扫地机器人保修几年", "蓝牙耳机怎么充电"]),
        (SHOP, ["扫地机器人保修几年", "你们几点关门"]),
        (ENGLISH, ["What is the dose of metformin?", "How is gout treated?"]),
        (ENGLISH, ["What is the dose of metformin?", "Is it safe to drive after a glass of wine?"]),
        (ENGLISH, ["What is the dose of metformin?", "What is warfarin?"]),
        (ENGLISH, ["Is warfarin safe?", "How often is the shingles vaccine given and who needs it?"]),
    ],
)
def test_a_question_that_stands_by_itself_is_left_as_it_is(rows: list[Row], asked: list[str]) -> None:
    assert search_text(asked, subjects_of(rows)) == asked[-1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["高血压能喝酒吗"], "高血压能喝酒吗"),
        (["高血压能喝酒吗", "那饮食方面呢？"], "高血压能喝酒吗\n那饮食方面呢？"),
        (["高血压能喝酒吗", "糖尿病有什么症状"], "糖尿病有什么症状"),
        (
            ["高血压能喝酒吗", "我妈妈今年七十岁了有糖尿病那她平时饮食上应该注意些什么"],
            "我妈妈今年七十岁了有糖尿病那她平时饮食上应该注意些什么",
        ),
        (["May I take aspirin?", "And with food?"], "May I take aspirin?\nAnd with food?"),
        (["May I take aspirin?", "How is gout treated?"], "How is gout treated?"),
        (["May I take aspirin?", "What is it?"], "May I take aspirin?\nWhat is it?"),
    ],
)
def test_a_short_question_that_refers_back_is_searched_with_the_one_before(
    asked: list[str], expected: str
) -> None:
    assert search_text(asked) == expected


def test_the_subject_is_found_in_whichever_column_names_it() -> None:
    assert subjects_of(CLINIC).mentions("我有糖尿病和高血压") == ("糖尿病", "高血压")
    assert subjects_of(SHOP).mentions("家电部的空气炸锅") == ("空气炸锅",)
    assert subjects_of(ENGLISH).mentions("Is the Shingles vaccine free?") == ("shingles", "vaccine")
    assert subjects_of(CLINIC).mentions("饮食和用药怎么预防") == ()
    assert subjects_of([row("", "", "怎么退货", "七天内")]) == Subjects()
    assert subjects_of([]) == Subjects()


def test_it_takes_less_than_two_milliseconds() -> None:
    subjects = subjects_of(CLINIC)
    asked = ["高血压能吃什么" * 40, *["那饮食方面呢？"] * 30]
    started = time.perf_counter()
    for _ in range(50):
        search_text(asked, subjects)
    assert (time.perf_counter() - started) / 50 < 2e-3
