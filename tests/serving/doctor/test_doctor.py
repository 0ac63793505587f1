from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from data.manifest import write_manifest
from data.records import write_records
from rag.config import IndexSection
from rag.index import build_index
from serving.doctor import machine
from serving.doctor.cli import app
from tests.rag.rows import ROWS
from tests.rag.tiny_embedding import write_tiny_embedding


def findings(*arguments: str) -> tuple[dict[str, dict[str, Any]], int]:
    """What the doctor says, by subject, and its exit status."""
    result = CliRunner().invoke(app, ["--name", "r", "--port", "0", "--json", *arguments])
    return {each["subject"]: each for each in json.loads(result.stdout)}, result.exit_code


@pytest.fixture
def run(workspace_root: Path) -> Path:
    """A workspace with both models and an indexed dataset of the run `r`."""
    texts = "".join(row.title + row.answer for row in ROWS)
    embedding = write_tiny_embedding(workspace_root / "models" / "multilingual-e5-small", texts)
    base = workspace_root / "models" / "qwen2.5-coder-0.5b-instruct"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "qwen2"}')
    (base / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.zeros(4)}, base / "model.safetensors")
    write_manifest(base, "model", {}, {})
    write_manifest(embedding, "model", {}, {})
    folder = workspace_root / "runs" / "r"
    write_records(folder / "dataset" / "rows.jsonl", ROWS)
    write_manifest(folder / "dataset", "dataset", {}, {})
    build_index(folder / "dataset", embedding, workspace_root / "index" / "r", IndexSection())
    return folder


def test_a_run_without_faults(run: Path) -> None:
    found, status = findings("--deep")
    assert [each for each in found.values() if each["state"] == "fault"] == []
    assert status == 0
    assert found["index"]["detail"].endswith("4 rows")
    assert found["adapter"]["state"] == "note"
    assert found["adapter"]["fix"] == "run `groundtune train run --name r`"


def test_nothing_made_yet_names_the_first_command(workspace_root: Path) -> None:
    found, status = findings()
    assert status == 1
    assert "groundtune models fetch multilingual-e5-small" in found["embedding model"]["fix"]
    assert found["index"]["state"] == "note"


def test_a_damaged_file_is_found_by_its_size_and_by_its_content(run: Path, workspace_root: Path) -> None:
    weights = workspace_root / "models" / "qwen2.5-coder-0.5b-instruct" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    assert findings()[1] == 0
    found, status = findings("--deep")
    assert (status, found["base model"]["state"]) == (1, "fault")
    assert "another content" in found["base model"]["detail"]
    weights.write_bytes(content + b"more")
    found, status = findings()
    assert (status, found["base model"]["state"]) == (1, "fault")
    assert "model.safetensors" in found["base model"]["detail"]


def test_an_index_of_other_rows_or_another_model(run: Path, workspace_root: Path) -> None:
    write_records(run / "dataset" / "rows.jsonl", ROWS[:2])
    write_manifest(run / "dataset", "dataset", {}, {})
    found, status = findings()
    assert (status, found["index"]["state"]) == (0, "note")
    assert "other rows" in found["index"]["detail"]
    embedding = write_tiny_embedding(workspace_root / "models" / "multilingual-e5-small", "盐", seed=9)
    write_manifest(embedding, "model", {}, {})
    found, status = findings()
    assert (status, found["index"]["state"]) == (1, "fault")
    assert "another embedding model" in found["index"]["detail"]


def test_a_port_in_use_and_a_wrong_configuration(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found, status = findings("--port", str(other.getsockname()[1]))
    assert (status, found["server"]["state"]) == (1, "fault")
    assert "--port 0" in found["server"]["fix"]
    (run / "config.yaml").write_text("models: [")
    found, status = findings()
    assert (status, found["configuration"]["state"]) == (1, "fault")


def test_packages_of_another_version_are_named(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    real = machine.metadata.version
    monkeypatch.setattr(machine.metadata, "version", lambda name: "0.1" if name == "chromadb" else real(name))
    found, status = findings()
    assert (status, found["package chromadb"]["state"]) == (1, "fault")
    assert found["package chromadb"]["detail"].startswith("0.1; needed is ")


def test_the_table_ends_with_the_number_of_faults(run: Path) -> None:
    result = CliRunner().invoke(app, ["--name", "r", "--port", "0"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith("no faults")
