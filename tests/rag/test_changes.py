from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.manifest import read_manifest
from data.records import Row, read_records, write_records
from rag.calibration import load_calibration
from rag.changes import compare_rows
from rag.config import IndexSection
from rag.index import CALIBRATION, COVERAGE, VECTORS, IndexBuild, build_index
from rag.lexical import load_postings, write_lexical
from rag.versions import version_folder
from tests.rag.rows import COLD, ROWS, SALT, row


def test_rows_are_the_same_wherever_they_stand() -> None:
    moved = dataclasses.replace(SALT, source="other.xlsx#Sheet1!A9")
    edited = row(COLD.info_1, COLD.info_2, COLD.question, "多喝水。")
    new = row("感冒", "饮食", "感冒了吃什么", "清淡些。")
    changes = compare_rows([new, edited, moved], ROWS)
    assert changes.same == {SALT.row_id: ROWS.index(SALT)}
    assert list(changes.new) == [0, 1]
    assert changes.num_changed == 1
    assert set(changes.removed) == {each.row_id for each in ROWS} - {SALT.row_id, COLD.row_id}
    assert changes.num_edits == 2 + len(changes.removed)
    assert not changes.keeps_questions


def test_one_question_twice_is_refused_by_name() -> None:
    twin = dataclasses.replace(SALT, source="rows.xlsx#Sheet1!A7")
    with pytest.raises(InputError, match=r"A7: the same question as .*data prepare"):
        compare_rows([SALT, COLD, twin], [])


def test_postings_that_follow_changes_are_those_made_from_nothing(tmp_path: Path) -> None:
    edited = row(COLD.info_1, COLD.info_2, COLD.question, "多喝水，aspirin aspirin 不要乱吃。")
    new = row("感冒", "饮食", "感冒了吃什么", "清淡些。")
    rows = [new, *(each for each in reversed(ROWS) if each not in (SALT, COLD)), edited]
    write_lexical(tmp_path / "before", ROWS, 3)
    same = compare_rows(rows, ROWS).same
    write_lexical(tmp_path / "after", rows, 3, tmp_path / "before", same)
    write_lexical(tmp_path / "anew", rows, 3)
    after, anew = (_entries(tmp_path / name) for name in ("after", "anew"))
    assert after == anew
    assert (
        load_postings(tmp_path / "after").lengths.tolist()
        == load_postings(tmp_path / "anew").lengths.tolist()
    )


def _entries(folder: Path) -> set[tuple[str, int, int]]:
    postings = load_postings(folder)
    assert (np.diff(postings.terms) >= 0).all()
    assert set(postings.terms.tolist()) == set(range(len(postings.names)))
    columns = (postings.terms.tolist(), postings.rows.tolist(), postings.counts.tolist())
    return {(postings.names[term], place, count) for term, place, count in zip(*columns, strict=True)}


def _many(count: int) -> list[Row]:
    return [row(f"病{n}", "饮食", f"第{n}种病能吃盐吗", f"关于第{n}种病的回答。") for n in range(count)]


def _index(rows: list[Row], tmp_path: Path, embedding: Path) -> tuple[Path, IndexBuild]:
    write_records(tmp_path / "dataset" / "rows.jsonl", rows)
    build = build_index(tmp_path / "dataset", embedding, tmp_path / "index", IndexSection())
    return version_folder(tmp_path / "index", build.version), build


def test_few_edits_keep_what_was_learned_of_the_rows(tiny_embedding: Path, tmp_path: Path) -> None:
    rows = _many(400)
    first, _ = _index(rows, tmp_path, tiny_embedding)
    rows[7] = row(rows[7].info_1, "饮食", rows[7].question, "改过的回答。")
    second, build = _index(rows, tmp_path, tiny_embedding)
    assert build.changes is not None
    assert (build.changes.num_changed, build.changes.num_embedded) == (1, 1)
    assert (second / CALIBRATION).read_bytes() == (first / CALIBRATION).read_bytes()
    assert (second / COVERAGE / "terms.json").samefile(first / COVERAGE / "terms.json")
    before, after = np.load(first / VECTORS), np.load(second / VECTORS)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [7]
    manifest = read_manifest(second)
    assert manifest is not None and manifest.facts["uncalibrated_edits"] == 1
    # A third edit of 400 is more than one in two hundred.
    for place in (8, 9):
        rows[place] = row(rows[place].info_1, "饮食", rows[place].question, "也改过。")
    third, _ = _index(rows, tmp_path, tiny_embedding)
    manifest = read_manifest(third)
    assert manifest is not None and manifest.facts["uncalibrated_edits"] == 0
    assert (third / CALIBRATION).read_bytes() != (first / CALIBRATION).read_bytes()


def test_an_index_that_follows_edits_is_the_one_made_from_nothing(
    tiny_embedding: Path, tmp_path: Path
) -> None:
    rows = _many(40)
    _index(rows, tmp_path / "followed", tiny_embedding)
    rows = [*reversed(rows[3:30]), row("病x", "饮食", "新的问题", "新的回答"), *rows[30:]]
    followed, build = _index(rows, tmp_path / "followed", tiny_embedding)
    anew, _ = _index(rows, tmp_path / "anew", tiny_embedding)
    assert build.changes is not None and build.changes.num_embedded == 2
    assert read_records(followed / "rows.jsonl", Row) == rows
    np.testing.assert_allclose(np.load(followed / VECTORS), np.load(anew / VECTORS), atol=1e-6)
    # A row embedded in another batch may differ in its last bit.
    kept, learned = (load_calibration(folder / CALIBRATION) for folder in (followed, anew))
    assert kept.usual_terms == learned.usual_terms
    np.testing.assert_allclose(kept.row_left_out, learned.row_left_out, atol=1e-4)
    for one, other in zip(kept.scales, learned.scales, strict=True):
        np.testing.assert_allclose(one.own, other.own, atol=1e-4)
        np.testing.assert_allclose(one.topic_left_out, other.topic_left_out, atol=1e-4)
