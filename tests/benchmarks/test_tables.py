from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.tables import cli
from benchmarks.tables.sections import SECTIONS
from data.errors import InputError


def test_the_repositorys_figures_are_those_of_its_results() -> None:
    for path, text in cli.rendered(cli.ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"run `groundtune bench tables`: {path.name}"


def test_every_result_is_shown_or_belongs_to_one_that_is() -> None:
    shown = {section.file for section in SECTIONS}
    results = {path.stem for path in (cli.ROOT / "benchmarks" / "results").glob("*.json")}
    assert results <= shown


def test_a_stale_table_is_found_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    result = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "merge.json").read_text())
    result["groundtune"]["wall_s"] = 3.21
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "merge.json").write_text(json.dumps(result))
    (tmp_path / "README.md").write_text(f"before\n{cli.BEGIN}\nold\n{cli.END}\nafter\n")
    with pytest.raises(InputError, match=r"README\.md: not what the results say"):
        CliRunner().invoke(app, ["tables", "--check"], catch_exceptions=False)
    assert CliRunner().invoke(app, ["tables"], catch_exceptions=False).exit_code == 0
    written = (tmp_path / "README.md").read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "3.2 s" in written
    assert "old" not in written
    assert "3.2" in (tmp_path / "docs" / "benchmarks.md").read_text()
    assert CliRunner().invoke(app, ["tables", "--check"], catch_exceptions=False).exit_code == 0
