from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.records import HeldOutQuestion, write_records
from rag.config import IndexSection, RetrieveSection
from rag.index import build_index
from rag.knowledge import KnowledgeIndex, open_index
from rag.refusal_report import auroc, measure_refusal
from tests.rag.rows import SALT, row
from tests.rag.test_cli import chosen, run  # noqa: F401


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auroc([0.0, 1.0], [2.0, 3.0]) == 0.0
    assert auroc([1.0], [1.0]) == 0.5
    assert auroc([1.0, 3.0], [2.0]) == 0.5


def test_what_is_measured_of_a_few_rows_orders_questions_all_the_same(knowledge: KnowledgeIndex) -> None:
    asked = HeldOutQuestion("每天吃盐不要超过多少", SALT.row_id, SALT.answer, "x")
    other = HeldOutQuestion("哪家医院好", "", "", "x")
    report = measure_refusal(knowledge, [asked, other], [other])
    assert report.num_answerable == 1
    assert report.num_unanswerable == {"unanswerable": 1, "topic left out": 1, "row left out": 1}
    for name, question in (("answerable", asked), ("unanswerable", other)):
        found = knowledge.search(question.question).answerability
        assert found is None  # two rows make no scale, and the sum itself orders questions
        assert np.isfinite(report.scores[name][0])
    with pytest.raises(ValueError, match="no question names a row"):
        measure_refusal(knowledge, [other], [])


def test_calibrate_prints_and_draws(chosen: list[str], tmp_path: Path) -> None:  # noqa: F811
    run("index", *chosen)
    shown = json.loads(run("calibrate", *chosen, "--json", "--rate", "0.5")[0])
    assert shown["num_answerable"] == 3
    assert [at["rate"] for at in shown["at_rates"]] == [0.5]
    picture = tmp_path / "risk.png"
    table = run("calibrate", *chosen, "--picture", str(picture))[0]
    assert "AUROC" in table
    assert "too few rows" in table
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no such file"):
        run("calibrate", str(tmp_path / "gone.jsonl"), *chosen)


def test_a_chosen_rate_makes_weak_matches_doubtful(tiny_embedding: Path, tmp_path: Path) -> None:
    rows = [
        row(f"病{topic}", aspect, f"病{topic}的{aspect}怎么办", f"{aspect}要听医生的{topic}")
        for topic in "甲乙丙丁戊己庚辛壬癸子丑"
        for aspect in ("饮食", "用药", "护理")
    ]
    write_records(tmp_path / "dataset" / "rows.jsonl", rows)
    build_index(tmp_path / "dataset", tiny_embedding, tmp_path / "index", IndexSection())
    settings = RetrieveSection(wrong_answer_rate=0.1, verbatim=True, verbatim_error_rate=0.1)
    opened = open_index(tmp_path / "index", tiny_embedding, settings)
    plain = open_index(tmp_path / "index", tiny_embedding, RetrieveSection(wrong_answer_rate=None))
    assert opened.search("xyz unrelated words").is_doubtful
    assert not plain.search("xyz unrelated words").is_doubtful
    asked = HeldOutQuestion("病乙 饮食 怎么办", rows[3].row_id, rows[3].answer, "x")
    measured = measure_refusal(opened, [asked], []).scores["answerable"]
    assert measured == pytest.approx([opened.search(asked.question).answerability], abs=0.05)
    own = opened.search(rows[4].question)
    assert (own.is_doubtful, own.is_verbatim) == (False, True)
    assert not plain.search(rows[4].question).is_verbatim
    opened.close()
    plain.close()
