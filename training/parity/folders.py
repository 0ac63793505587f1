"""Base, adapter and merged model as they lie on disk: whole, of one lineage, and what the manifests record.

Reads every byte once (for the SHA-256) and loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.artefacts import sha256_file
from data.errors import InputError
from data.manifest import folder_digest, read_manifest
from data.models.folder import check_model_folder, summarise_weights
from training.lora_adapter import read_adapter
from training.parity.findings import Fault
from training.parity.tensors import TensorReport, merge_fault

_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Folders:
    """The three folders that have to belong together."""

    base: Path
    adapter: Path
    merged: Path


def broken_files(folders: Folders) -> list[Fault]:
    """Return what keeps the folders from being read at all: a missing or shortened file."""
    faults = []
    for folder, check in (
        (folders.base, check_model_folder),
        (folders.merged, check_model_folder),
        (folders.adapter, read_adapter),
    ):
        try:
            check(folder)
        except InputError as error:
            text = str(error)
            about_weights = _WEIGHTS in text or "weights" in text
            faults.append(Fault("shard" if about_weights else "files", text))
    return faults


def changed_files(folder: Path) -> list[str]:
    """Return the names of files that are not what the folder's manifest records; none without a manifest."""
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    return [
        name
        for name, stamp in manifest.files.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != stamp.sha256
    ]


def lineage_faults(folders: Folders, report: TensorReport) -> list[Fault]:
    """Return what the tensors and the manifests say about where the merged weights come from."""
    changed = {folder: changed_files(folder) for folder in (folders.base, folders.adapter, folders.merged)}
    faults = _dtype_faults(folders, report)
    merge = merge_fault(report, folders.adapter)
    base = _base_fault(folders, report, changed[folders.base], merged_twice=_merged_twice(report))
    damaged = [name for name in changed[folders.merged] if name.endswith(_WEIGHTS)]
    # Changed where the adapter changes nothing, or in a way that no merge explains.
    unclear = report.foreign or all(item.verdict == "unexplained" for item in report.wrong)
    torn = bool(damaged and unclear and not report.retyped)
    if torn:
        faults.append(
            Fault("shard", f"{folders.merged / damaged[0]}: not what its manifest records; merge again")
        )
    elif base is not None:
        faults.append(base)
    if merge is not None and not torn and (base is None or not report.foreign):
        faults.append(Fault("merge", merge))
    for folder, names in changed.items():
        others = [name for name in names if not name.endswith(_WEIGHTS)]
        if others and folder != folders.base:
            faults.append(
                Fault("files", f"{folder / others[0]}: changed since it was written; make the folder again")
            )
    return faults


def _merged_twice(report: TensorReport) -> bool:
    return any(item.verdict == "twice" for item in report.wrong)


def _dtype_faults(folders: Folders, report: TensorReport) -> list[Fault]:
    faults = [Fault("dtype", f"{report.retyped[0]} ({len(report.retyped)} such)")] if report.retyped else []
    if report.missing:
        faults.append(
            Fault("merge", f"{report.missing[0]} is in only one of the folders ({len(report.missing)} such)")
        )
    stored = summarise_weights(folders.merged).dtype
    declared = declared_dtype(folders.merged)
    wanted = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}.get(stored)
    if declared and wanted and declared != wanted:
        faults.append(
            Fault(
                "dtype",
                f"{folders.merged / 'config.json'}: says {declared}, the weights are {stored}: an engine would "
                "convert them; correct the field",
            )
        )
    return faults


def declared_dtype(folder: Path) -> str | None:
    """Return the dtype that a model's config.json names, by its new or its old name."""
    config: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    value = config.get("dtype") or config.get("torch_dtype")
    return value if isinstance(value, str) else None


def _base_fault(
    folders: Folders, report: TensorReport, changed: list[str], *, merged_twice: bool
) -> Fault | None:
    """Say whether this base is the one that the adapter was trained on and merged into."""
    if changed:
        return Fault(
            "base",
            f"{folders.base / changed[0]}: not what the base's manifest records: another revision, or damaged; "
            "fetch the base again",
        )
    digest = folder_digest(folders.base)
    for folder, done in ((folders.adapter, "trained on"), (folders.merged, "merged into")):
        manifest = read_manifest(folder)
        recorded = manifest.inputs.get("base") if manifest else None
        if recorded is not None and recorded != digest and not (merged_twice and folder == folders.merged):
            return Fault(
                "base",
                f"{folder.name} was {done} a base of digest {recorded[:12]}, {folders.base} has {digest[:12]}: "
                "another revision; give the base of that revision, or train and merge again",
            )
    if report.foreign:
        return Fault(
            "base",
            f"{len(report.foreign)} tensors that the adapter leaves alone differ from the base's (first "
            f"{report.foreign[0]}): {folders.base} is another revision than was merged into",
        )
    return None
