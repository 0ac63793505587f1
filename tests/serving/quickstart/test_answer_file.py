from __future__ import annotations

from pathlib import Path

from serving.quickstart.answer_file import AnswerFile, code_digest
from serving.quickstart.asking import Answer, CitedRow

_CITED = CitedRow("abc", "高血压 · 能吃盐吗", "http://x/kb/rows/abc", "样例.xlsx#表!A2", resolves=True)
_ANSWER = Answer("少吃盐[1]。", 1.5, 8, 61.2, (_CITED,), cites_right_row=True, no_answer=False, quoted=False)
_PLAIN = Answer("是", 0.5, 1, 0.0, (), cites_right_row=None, no_answer=False, quoted=False)


def test_answers_outlive_the_process_group_by_group(tmp_path: Path) -> None:
    path, inputs = tmp_path / "answers.json", {"merged": "1"}
    AnswerFile(path, inputs).add({(0, "base"): _PLAIN})
    again = AnswerFile(path, inputs)
    assert again.answers == {(0, "base"): _PLAIN}
    again.add({(0, "base-rag"): _ANSWER})
    assert AnswerFile(path, inputs).answers == {(0, "base"): _PLAIN, (0, "base-rag"): _ANSWER}


def test_answers_of_another_model_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    AnswerFile(path, {"merged": "1"}).add({(0, "base"): _PLAIN})
    assert AnswerFile(path, {"merged": "2"}).answers == {}


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text('{"inputs": {"merged": "1"}, "answ')
    assert AnswerFile(path, {"merged": "1"}).answers == {}


def test_the_codes_digest_is_repeatable() -> None:
    assert code_digest() == code_digest()
