from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.models.folder import check_model_folder, resolve_model, summarise_weights, weights_bytes
from data.models.weights import INDEX_FILE, SINGLE_FILE, RowSource, write_weights
from data.workspace import Workspace

VALUES = np.ones((10, 10), np.float32)


def _write_folder(folder: Path, max_shard_bytes: int = 1000) -> Path:
    folder.mkdir(parents=True)
    sources = [RowSource(name, (10, 10), lambda first, last: VALUES[first:last]) for name in "abc"]
    write_weights(folder, sources, max_shard_bytes=max_shard_bytes)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("max_shard_bytes", [1000, 300])
def test_a_whole_folder_passes(tmp_path: Path, max_shard_bytes: int) -> None:
    folder = _write_folder(tmp_path / "m", max_shard_bytes)
    check_model_folder(folder)
    assert weights_bytes(folder) == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    summary = summarise_weights(folder)
    assert (summary.num_parameters, summary.dtype) == (300, "BF16")


def _remove(name: str):
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def _only_pickles(folder: Path) -> None:
    (folder / SINGLE_FILE).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")


def _adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("config.json"), "config.json is missing"),
        (_write("config.json", "{"), "config.json: not readable as JSON"),
        (_write("config.json", "[]"), "config.json: expected a JSON object"),
        (_write("config.json", "{}"), "config.json: 'model_type' is missing"),
        (_adapter, "a LoRA adapter, not a whole model"),
        (_remove("tokenizer.json"), "no tokenizer"),
        (_remove(SINGLE_FILE), "no weights"),
        (_only_pickles, "pickles only"),
        (_write(SINGLE_FILE, "version https://git-lfs"), "model.safetensors: not a safetensors file"),
        (_write(INDEX_FILE, '{"weight_map": {"a": "../x.safetensors"}}'), "'weight_map' is not a table"),
        (_write(INDEX_FILE, '{"weight_map": {"a": "gone.safetensors"}}'), "gone.safetensors: missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, message: str) -> None:
    folder = _write_folder(tmp_path / "m")
    damage(folder)
    with pytest.raises(InputError, match=message):
        check_model_folder(folder)


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path / "m", max_shard_bytes=300)
    shard = folder / json.loads((folder / INDEX_FILE).read_text())["weight_map"]["b"]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{shard.name}: .* cut short"):
        check_model_folder(folder)


def test_references_resolve_to_checked_folders(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "var")
    known = _write_folder(workspace.models / "multilingual-e5-small")
    hub = _write_folder(workspace.models / "org--name")
    own = _write_folder(tmp_path / "own")
    assert resolve_model(workspace, "multilingual-e5-small") == known
    assert resolve_model(workspace, "hf:org/name") == hub
    assert resolve_model(workspace, f"path:{own}") == resolve_model(workspace, str(own)) == own
    (own / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        resolve_model(workspace, str(own))


@pytest.mark.parametrize("reference", ["smollm2-135m-instruct", "hf:org/other"])
def test_what_is_not_fetched_says_how(tmp_path: Path, reference: str) -> None:
    with pytest.raises(InputError, match=f"is not fetched; run `groundtune models fetch {reference}`"):
        resolve_model(Workspace(tmp_path), reference)
