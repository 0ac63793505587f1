from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from data.models.catalogue import CATALOGUE, DEFAULTS
from data.models.cli import app
from tests.data.models.tiny_gguf import random_tensors, write_tiny_gguf


def test_list_shows_the_catalogue_and_what_is_on_disk(workspace_root: Path) -> None:
    from data.models.gguf_folder import write_gguf_folder

    folder = workspace_root / "models" / "org--name"
    folder.mkdir(parents=True)
    write_gguf_folder(write_tiny_gguf(workspace_root / "a.gguf", random_tensors()), folder)
    result = CliRunner().invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    models = {model["name"]: model for model in json.loads(result.stdout)}
    assert set(models) == {*CATALOGUE, "org--name"}
    assert models[DEFAULTS[0]]["size_bytes"] is None
    assert models["org--name"]["size_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    table = CliRunner().invoke(app, ["list"]).stdout
    assert all(name in table for name in models)


def test_fetch_refuses_an_unknown_name_in_one_line() -> None:
    command = [sys.executable, "-m", "serving.cli", "models", "fetch", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("groundtune: error: model 'nothing' is not known")


def test_nothing_here_imports_torch_or_transformers() -> None:
    modules = ["cli", "fetch", "folder", "capacity", "hubs", "wheels", "gguf_folder", "e5_folder"]
    code = f"import sys, {', '.join(f'data.models.{m}' for m in modules)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "sentence_transformers", "modelscope"} & set(loaded)
