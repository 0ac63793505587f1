from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from data.models.catalogue import CATALOGUE
from data.models.sources import HubModel, LocalFolder, parse_source, source_folder
from data.workspace import Workspace


@pytest.mark.parametrize("reference", ["multilingual-e5-small", "pypi:multilingual-e5-small"])
def test_catalogue_names(reference: str) -> None:
    source = parse_source(reference)
    assert source is CATALOGUE["multilingual-e5-small"]
    assert source_folder(Workspace(Path("var")), source) == Path("var/models/multilingual-e5-small")


@pytest.mark.parametrize(
    ("reference", "source", "name"),
    [
        ("hf:Qwen/Qwen2.5-7B", HubModel("hf", "Qwen/Qwen2.5-7B", None), "Qwen--Qwen2.5-7B"),
        ("hf:a/b@v1.0", HubModel("hf", "a/b", "v1.0"), "a--b@v1.0"),
        ("hf:a/b@refs/pr/1", HubModel("hf", "a/b", "refs/pr/1"), "a--b@refs--pr--1"),
        ("modelscope:a/b", HubModel("modelscope", "a/b", None), "a--b"),
    ],
)
def test_hub_references(reference: str, source: HubModel, name: str) -> None:
    assert parse_source(reference) == source
    assert str(source) == reference
    assert source_folder(Workspace(Path("var")), source) == Path("var/models") / name


def test_folders_of_ones_own(tmp_path: Path) -> None:
    assert parse_source(f"path:{tmp_path}") == parse_source(str(tmp_path)) == LocalFolder(tmp_path)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("multilingual-e5-smal", "did you mean 'multilingual-e5-small'"),
        ("Qwen/Qwen2.5-7B", "write hf:Qwen/Qwen2.5-7B or modelscope:Qwen/Qwen2.5-7B"),
        ("what is this", "give a folder, hf:ORG/NAME"),
        ("hf:Qwen", "expected hf:ORG/NAME"),
        ("hf:../../etc@x", "expected hf:ORG/NAME"),
        ("path:/no/such/place", "no such folder"),
        ("pypi:requests", "is not known"),
    ],
)
def test_what_is_not_understood_says_what_to_write(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_source(reference)
