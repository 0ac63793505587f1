from __future__ import annotations

from rag.markers import Code, Marker, MarkerScanner, Token


def scan(text: str) -> list[Token]:
    """The tokens of a text, plain characters and code joined."""
    scanner = MarkerScanner()
    tokens = [token for character in text for token in scanner.take(character)]
    tokens += scanner.finish()
    joined: list[Token] = []
    for token in tokens:
        if joined and isinstance(token, str) and isinstance(joined[-1], str):
            joined[-1] += token
        elif joined and isinstance(token, Code) and isinstance(joined[-1], Code):
            joined[-1] = Code(joined[-1].character + token.character)
        else:
            joined.append(token)
    return joined


def test_every_spelling_of_a_marker() -> None:
    for text in ("[1]", "【1】", "［1］", "［１］", "[ 1 ]", "[1】"):
        assert scan(text) == [Marker((1,))], text
    for text in ("[1, 2]", "[1,2]", "【1、2】", "[1；2]"):
        assert scan(text) == [Marker((1, 2))], text


def test_other_brackets_are_text() -> None:
    for text in ("[]", "[ ]", "[x]", "【注意】", "[2024]", "[1-3]", "[1", "[1.5]", "(1)", "[,1]", "]1["):
        assert scan(text) == [text], text


def test_a_bracket_that_never_closes_is_let_go() -> None:
    text = "[" + "1" * 30
    scanner = MarkerScanner()
    assert "".join(str(token) for character in text for token in scanner.take(character)) == text


def test_a_marker_right_after_an_open_bracket() -> None:
    assert scan("[[1]") == ["[", Marker((1,))]


def test_code_is_left_alone() -> None:
    assert scan("`a[1]` b[2]") == [Code("`a[1]`"), " b", Marker((2,))]
    assert scan("```\na[1]\n```\n[2]") == [Code("```\na[1]\n```"), "\n", Marker((2,))]
    assert scan("``a`[1]``[2]") == [Code("``a`[1]``"), Marker((2,))]


def test_inline_code_ends_with_its_line() -> None:
    assert scan("5` [1]\n[2]") == ["5", Code("` [1]"), "\n", Marker((2,))]
