from __future__ import annotations

from pathlib import Path

import pytest

from data.config import read_config, save_config, section, settle_config
from data.errors import UsageError
from data.settings import WorkbookSection
from data.workspace import Run, Workspace


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("workbook: {rows: 5, sheet: S}")
    raw = read_config(path, ["workbook.rows=7", "workbook.map={Q: Frage}"])
    chosen = section(raw, "workbook", WorkbookSection)
    assert (chosen.rows, chosen.sheet, chosen.map) == (7, "S", {"Q": "Frage"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrkbook: {}", "unknown section 'wrkbook'; did you mean 'workbook'"),
        ("workbook: 3", "workbook: expected keys and values, found 3"),
        ("[1, 2]", "expected sections"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_config(path)


def test_all_faults_of_a_section_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        section({"workbook": {"rwos": 3, "rows": 0}}, "workbook", WorkbookSection)
    assert "workbook.rwos: unknown key; did you mean 'rows'?" in str(caught.value)
    assert "workbook.rows:" in str(caught.value)


@pytest.mark.parametrize("override", ["rows=3", "nope.rows=3", "workbook.rows"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        read_config(None, [override])


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such configuration file"):
        read_config(tmp_path / "none.yaml")


def test_a_run_remembers_its_configuration(tmp_path: Path) -> None:
    run: Run = Workspace(tmp_path).run("r")
    save_config(run, {"workbook": {"rows": 3}})
    assert settle_config(run, None) == {"workbook": {"rows": 3}}
    with pytest.raises(UsageError, match="--name"):
        Workspace(tmp_path).run("../r")


def test_overrides_may_lead_further_down(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("serve: {lmdeploy: {tp: 1, dtype: auto}, port: 1}\n")
    raw = read_config(path, ["serve.lmdeploy.tp=2", "serve.external.base.url='http://a'"])
    assert raw["serve"]["lmdeploy"] == {"tp": 2, "dtype": "auto"}
    assert raw["serve"]["external"] == {"base": {"url": "http://a"}}
    with pytest.raises(UsageError, match=r"serve\.port has a value, 1"):
        read_config(path, ["serve.port.deep=2"])
