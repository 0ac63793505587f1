from __future__ import annotations

import pytest

from data.lint.mojibake import find_mojibake


@pytest.mark.parametrize("text", ["高血压能吃咸菜吗？", "痛风怎么办", "少吃盐，多运动。", "头痛三天了"])
def test_chinese_read_with_the_wrong_encoding_is_found_and_read_back(text: str) -> None:
    for damaged in (text.encode().decode("latin-1"), text.encode().decode("gb18030", "ignore")):
        found = find_mojibake(f"{damaged}")
        assert found is not None, damaged
        assert found.repaired[:3] == text[:3]
    found = find_mojibake(text.encode("gbk").decode("latin-1"))
    assert found is not None
    assert found.repaired[:3] == text[:3]
    assert find_mojibake(text.encode().decode("gbk", "replace")) is not None


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("It’s a cafÃ©", "é"),
        ("nothing but cafÃ©", "é"),
        ("donâ€™t stop", "don’t stop"),
        ("锟斤拷锟斤拷", ""),
        ("头\ufffd痛", ""),
        ("项\ue004目", ""),
    ],
)
def test_other_damage(text: str, repaired: str) -> None:
    found = find_mojibake(text)
    assert found is not None
    assert found.repaired == repaired


@pytest.mark.parametrize(
    "text",
    [
        "联通", "羧甲司坦和黄芪", "±5℃", "café, naïve, Größe", "São Paulo", "£5–£10", "“quoted”…", "MST®Continus® 5 mg",
        "日本語です", "한국어", "Привет", "饕餮魑魅魍魉", "癫痫瘙痒瘘管", "½ tablet", "5µg/m³", "😀👍🏽", "À «",
        "Ça va? Où êtes-vous? – très bien", "鳜鱼怎么做", "氨氯地平 0.25g×6片", "Việt Nam đất nước", "plain", "",
        "嘧啶酮羟基？？",
    ],
)  # fmt: skip
def test_text_in_its_own_right_is_left_alone(text: str) -> None:
    assert find_mojibake(text) is None
