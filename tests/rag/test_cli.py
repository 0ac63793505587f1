from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.errors import GroundTuneError, InputError, UsageError
from rag.cli import app
from tests.rag.conftest import write_dataset
from tests.rag.rows import COLD, SALT

_runner = CliRunner()


@pytest.fixture
def chosen(workspace_root: Path, tiny_embedding: Path) -> list[str]:
    """Options that choose a prepared run and the tiny embedding."""
    write_dataset(workspace_root / "runs" / "trial" / "dataset")
    return ["--name", "trial", "--set", f"models.embedding={tiny_embedding}"]


def run(*arguments: str) -> tuple[str, str]:
    """Standard output and error of a command that must succeed."""
    result = _runner.invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_index_search_and_eval(chosen: list[str], workspace_root: Path) -> None:
    first = json.loads(run("index", *chosen, "--json")[0])
    assert first["fresh"] is True
    assert first["num_rows"] == 4
    assert Path(first["index"]) == workspace_root / "index" / "trial"

    again, note = run("index", *chosen)
    assert "up to date" in again
    assert "up to date" in note

    found = json.loads(run("search", SALT.question, *chosen, "--top-k", "2", "--json")[0])
    assert found["hits"][0]["row_id"] == SALT.row_id
    assert len(found["hits"]) == 2
    assert found["hits"][0]["ranks"]["lexical"] == 1

    table, timings = run("search", COLD.question, *chosen)
    assert COLD.question in table
    assert "embed" in timings

    report = json.loads(run("eval", *chosen, "--json")[0])
    assert report["num_questions"] == 3
    assert set(report["stages"]) == {"dense", "lexical", "coverage", "fused"}
    assert "hit@1" in run("eval", *chosen)[0]


def test_eval_takes_a_file_of_questions(chosen: list[str], tmp_path: Path) -> None:
    run("index", *chosen)
    asked = tmp_path / "asked.jsonl"
    line = {"question": COLD.question, "row_id": COLD.row_id, "answer": "", "source": ""}
    asked.write_text(json.dumps(line) + "\n" + json.dumps({**line, "row_id": "gone"}) + "\n")
    out, err = run("eval", str(asked), *chosen, "--json")
    assert json.loads(out)["num_questions"] == 1
    assert "1 questions name rows" in err

    asked.write_text(json.dumps({"row": int(COLD.source.rpartition("!C")[2]), "question": "感冒怎么办"}))
    chart = tmp_path / "figures" / "found.png"
    report = json.loads(run("eval", str(asked), *chosen, "--chart", str(chart), "--json")[0])
    assert report["stages"]["fused"]["hit@1"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_square_brackets_of_a_cell_are_shown(chosen: list[str], workspace_root: Path) -> None:
    rows = workspace_root / "runs" / "trial" / "dataset" / "rows.jsonl"
    rows.write_text(rows.read_text().replace(COLD.question, "[red]感冒[/]怎么办"))
    run("index", *chosen)
    assert "[red]感冒[/]怎么办" in run("search", "感冒怎么办", *chosen)[0]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["search", "盐"], InputError, "run `groundtune rag index` first"),
        (["eval", "nowhere.jsonl"], InputError, "nowhere.jsonl"),
        (["index", "--set", "index.colour=red"], UsageError, "index.colour: unknown key"),
        (["search", "盐", "--set", "retrieve.depth=0"], UsageError, "retrieve.depth"),
        (
            ["search", "盐", "--set", "retrieve.weights={dense: 0, lexical: 0}"],
            UsageError,
            "retrieve.weights",
        ),
    ],
)
def test_faults_are_one_line(
    arguments: list[str], kind: type[GroundTuneError], message: str, chosen: list[str]
) -> None:
    with pytest.raises(kind) as raised:
        _runner.invoke(app, [*arguments, *chosen], catch_exceptions=False)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("module", ["rag.cli", "rag.index", "rag.grounding", "rag.citations", "rag.config"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    heavy = ("torch", "transformers", "chromadb", "sentence_transformers", "langchain_core", "bm25s", "numpy")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
