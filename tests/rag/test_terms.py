from __future__ import annotations

from rag.terms import has_cjk, stems, terms


def test_chinese_gives_bigrams_and_the_rest_words() -> None:
    assert terms("高血压 take Aspirin，5mg") == ["高血", "血压", "take", "aspirin", "5mg"]


def test_text_without_blanks_is_cut_where_the_script_changes() -> None:
    assert terms("服用aspirin后") == ["服用", "aspirin", "后"]


def test_width_and_case_do_not_matter() -> None:
    assert terms("ＡＳＰＩＲＩＮ １００ｍｇ") == terms("aspirin 100mg")


def test_punctuation_gives_nothing() -> None:
    assert terms("？！…… -- _") == []


def test_scripts_are_told_apart() -> None:
    assert has_cjk("take 阿司匹林")
    assert has_cjk("ひらがな")
    assert not has_cjk("Überdosis № 5")


def test_english_words_lose_their_endings_and_nothing_else_does() -> None:
    assert stems("The VPN disconnects, disconnecting printers") == [
        "the", "vpn", "disconnect", "disconnect", "printer",
    ]  # fmt: skip
    assert stems("高血压 5mg Überdosis") == terms("高血压 5mg Überdosis")
