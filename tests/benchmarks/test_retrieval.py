from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.retrieval.corpus import make_questions, make_rows
from benchmarks.retrieval.flow import SearchPlan, parent_rows, run_searches
from data.errors import GroundTuneError, InputError
from data.row_source import RowSource, read_rows
from tests.rag.tiny_embedding import write_tiny_embedding

SAMPLE = Path(__file__).parents[2] / "data" / "知识库内容.xlsx"


def _plan(tmp_path: Path, embedding: Path, **changes: object) -> SearchPlan:
    facts: dict[str, object] = {
        "workbook": SAMPLE,
        "mapping": {},
        "embedding": embedding,
        "sizes": (20, 60),
        "most_embedded": 30,
        "most_indexed": 30,
        "threads": 1,
        "at_most_s": 60.0,
        "folder": tmp_path / "indexes",
        "out": tmp_path / "retrieval.json",
    }
    return SearchPlan(**{**facts, **changes})  # type: ignore[arg-type]


def test_rows_and_questions_are_the_same_each_time_and_no_two_are_one() -> None:
    source = read_rows(RowSource(SAMPLE))
    rows, parents = make_rows(source, 500)
    assert make_rows(source, 500) == (rows, parents)
    assert len({row.row_id for row in rows}) == 500
    assert np.array(parents).max() < len(source)
    asked = make_questions(source)
    assert asked == make_questions(source)
    assert all(len(question) <= 60 for question in asked)


@pytest.mark.slow
def test_every_system_is_built_searched_and_not_measured_twice(tmp_path: Path) -> None:
    embedding = write_tiny_embedding(
        tmp_path / "tiny", "".join(row.title for row in parent_rows(_plan(tmp_path, tmp_path)))
    )
    plan = _plan(tmp_path, embedding)
    stopped = _plan(tmp_path, embedding, sizes=(60,), at_most_s=-1.0)
    with pytest.raises(GroundTuneError, match="run it again to go on"):
        run_searches(stopped, "bench")
    result = run_searches(plan, "bench")
    runs = {(run["system"], run["rows"]): run for run in result["runs"]}
    assert set(runs) == {("groundtune", 20), ("tutorial", 20), ("stages", 60)}
    assert all(run["recall@10"] == 1.0 for run in runs.values())
    assert set(runs["stages", 60]["times_ms"]) == {"dense", "lexical"}
    assert runs["groundtune", 20]["times_ms"]["end to end"]["p50"] > 0
    assert plan.out.with_suffix(".png").stat().st_size > 0
    written = plan.out.read_bytes()
    assert run_searches(plan, "bench")["runs"] == json.loads(written)["runs"]
    with pytest.raises(InputError, match="another workbook"):
        run_searches(_plan(tmp_path, embedding, threads=2), "bench")
