from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from safetensors.torch import save_file
from typer.testing import CliRunner

from data.conversations import Conversation, conversation_line
from data.manifest import write_manifest
from data.records import write_records
from rag.config import IndexSection
from rag.index import build_index
from serving.doctor import machine
from serving.doctor.cli import app
from tests.rag.rows import ROWS
from tests.rag.tiny_embedding import write_tiny_embedding
from tests.serving.live_server import live_server


def findings(*arguments: str) -> tuple[dict[str, dict[str, Any]], int]:
    """What the doctor says, by subject, and its exit status."""
    result = CliRunner().invoke(app, ["--name", "r", "--port", "0", "--json", *arguments])
    return {each["subject"]: each for each in json.loads(result.stdout)}, result.exit_code


@pytest.fixture
def run(workspace_root: Path) -> Path:
    """A workspace with both models and an indexed dataset of the run `r`."""
    texts = "".join(row.title + row.answer for row in ROWS)
    embedding = write_tiny_embedding(workspace_root / "models" / "multilingual-e5-small-asked", texts)
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
    assert "groundtune models fetch multilingual-e5-small-asked" in found["embedding model"]["fix"]
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
    embedding = write_tiny_embedding(workspace_root / "models" / "multilingual-e5-small-asked", "盐", seed=9)
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


def test_the_configured_engine_and_its_environment(run: Path, workspace_root: Path) -> None:
    assert findings()[0]["engine transformers"]["detail"].startswith("transformers ")
    config = run / "config.yaml"
    config.write_text("serve: {engine: llamacpp, llamacpp: {python: /nowhere/python}}")
    found, status = findings()
    assert (status, found["engine llamacpp"]["state"]) == (1, "fault")
    assert "pip install xllamacpp" in found["engine llamacpp"]["fix"]
    assert "--keep-gguf" in found["GGUF of base"]["fix"]
    (workspace_root / "models" / "qwen2.5-coder-0.5b-instruct.gguf").write_bytes(b"GGUF")
    assert findings()[0]["GGUF of base"]["state"] == "ok"
    config.write_text(f"serve: {{engine: lmdeploy, lmdeploy: {{python: {sys.executable}}}}}")
    found, status = findings()
    assert status == 1 and "serve.lmdeploy.python" in found["engine lmdeploy"]["fix"]
    config.write_text("train: {backend: xtuner}")
    assert "train env xtuner" in findings()[0]["environment xtuner"]["fix"]


def test_servers_that_somebody_else_runs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run / "config.yaml"
    config.write_text("serve: {external: {tuned: {url: 'http://127.0.0.1:9', model: m}}}")
    found, status = findings()
    assert (status, found["server of tuned"]["state"]) == (1, "fault")
    assert "serve.external.tuned.url" in found["server of tuned"]["fix"]
    with live_server(lambda _: FastAPI()) as url:
        config.write_text(f"serve: {{external: {{tuned: {{url: '{url}', model: m}}}}}}")
        assert findings()[0]["server of tuned"]["state"] == "ok"
    config.write_text(
        "serve: {external: {tuned: {url: 'http://h', model: m, api_key_variable: GROUNDTUNE_TEST_KEY}}}"
    )
    assert "export GROUNDTUNE_TEST_KEY" in findings()[0]["server of tuned"]["fix"]


def test_answers_that_changed_since_training(run: Path) -> None:
    """The merged model is of an adapter that learned another answer to the first row than the index has."""
    conversations = [
        conversation_line(Conversation(row.row_id, "plain", "", row.question, row.answer)) for row in ROWS
    ]
    (run / "dataset" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in conversations))
    dataset = write_manifest(run / "dataset", "dataset", {}, {})
    for name in ("adapter", "merged"):
        (run / name).mkdir()
        (run / name / "weights").write_text("x")
    trained_on = {"train.jsonl": dataset.files["train.jsonl"].sha256}
    adapter = write_manifest(run / "adapter", "adapter", trained_on, {})
    write_manifest(run / "merged", "model", {"adapter": adapter.digest}, {})
    assert findings()[0]["tuned model"]["state"] == "ok"
    conversations[0]["conversation"][0]["output"] = "从前的答案。"
    (run / "dataset" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in conversations))
    dataset = write_manifest(run / "dataset", "dataset", {}, {})
    trained_on = {"train.jsonl": dataset.files["train.jsonl"].sha256}
    write_manifest(run / "adapter", "adapter", trained_on, {})
    found, status = findings()
    assert (status, found["tuned model"]["state"]) == (0, "note")
    assert found["tuned model"]["detail"].startswith("learned 1 answers that have changed")
    (run / "adapter" / "weights").write_text("y")
    write_manifest(run / "adapter", "adapter", trained_on, {})
    assert "cannot be told" in findings()[0]["tuned model"]["detail"]


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
