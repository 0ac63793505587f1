"""What goes to a hub, and what never does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from data.errors import GroundTuneError, InputError, UsageError
from data.prepare import prepare_dataset
from data.settings import PrepareSection, WorkbookSection
from data.workspace import Run, Workspace
from tests.data.test_workbook import HEADER, make_workbook
from tests.training.shapes import write_adapter, write_base
from training.cli import app
from training.merge import merge_adapter
from training.push import HuggingFaceHub, ModelScopeHub, plan_push, push


@pytest.fixture
def run(workspace_root: Path, tmp_path: Path) -> Run:
    run = Workspace(workspace_root).run("quickstart")
    rows = [["高血压", "饮食", f"第{n}个问题", f"秘密{n}。"] for n in range(3)]
    workbook = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows]})
    prepare_dataset(run.dataset, WorkbookSection(file=workbook), PrepareSection(own_questions=1))
    base = write_base(tmp_path / "a-base", "qwen2", tied=True, dtype=torch.bfloat16)
    write_adapter(run.adapter, base)
    merge_adapter(base, run.adapter, run.merged, 1 << 30)
    return run


class RecordingApi:
    """Stands for HfApi: reads the folder it is given, as an upload would."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.private: bool | None = None

    def create_repo(self, model_id: str, *, private: bool, exist_ok: bool) -> str:
        self.private = private and exist_ok
        return f"https://hub.example/{model_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_the_models_files_and_a_card_go_and_nothing_else(run: Run, tmp_path: Path) -> None:
    (run.merged / "notes.log").write_text("private")
    (run.merged / "modeling.py").write_text("code")
    api = RecordingApi()
    plan = plan_push(run.merged, run.dataset, "apache-2.0")
    assert push(plan, "me/model", HuggingFaceHub(api), private=True) == "https://hub.example/me/model"
    assert api.private
    assert set(api.files) == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert api.files["model.safetensors"] == (run.merged / "model.safetensors").read_bytes()
    assert {item.name: item.size_bytes for item in plan.files} == {n: len(b) for n, b in api.files.items()}
    card = api.files["README.md"].decode()
    assert "license: apache-2.0" in card and "- base model: a-base" in card and "- num rows: 3" in card
    assert not any("秘密".encode() in content for content in api.files.values())


def test_an_adapter_goes_too(run: Run) -> None:
    plan = plan_push(run.adapter, run.dataset, None)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {item.name for item in plan.files}
    assert "library_name: peft" in plan.card and "license:" not in plan.card


def test_a_file_that_names_this_machine_stays(run: Run, tmp_path: Path) -> None:
    path = run.adapter / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": f"{tmp_path}/a-base"}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="a folder of this machine"):
        plan_push(run.adapter, run.dataset, None, (tmp_path,))


def test_dry_run_shows_and_uploads_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise AssertionError("uploaded")

    monkeypatch.setattr(HuggingFaceHub, "upload", fail)
    done = CliRunner().invoke(app, ["push", "--to", "hf:me/model", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.output and "nothing was uploaded" in done.output
    assert load_file(run.merged / "model.safetensors")
    wrong = CliRunner().invoke(app, ["push", "--to", "model"])
    assert isinstance(wrong.exception, UsageError)


def test_failures_are_readable(run: Run, tmp_path: Path) -> None:
    plan = plan_push(run.adapter, run.dataset, None)
    with pytest.raises(GroundTuneError, match="hf:me/model: the upload failed"):
        push(plan, "me/model", HuggingFaceHub(), private=True)  # the tests are offline
    if importlib.util.find_spec("modelscope") is None:
        with pytest.raises(GroundTuneError, match="pip install modelscope"):
            push(plan, "me/model", ModelScopeHub(), private=True)
    with pytest.raises(InputError, match="neither a merged model nor an adapter"):
        plan_push(tmp_path, run.dataset, None)
