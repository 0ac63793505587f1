"""A folder's manifest: what it was made of and what it holds.

Every step writes `groundtune.json` last, inside the folder it made. The next step reads it to know what
it is given, and a step whose inputs have the digests recorded there has nothing to do. A manifest holds
no date and no absolute path, so that equal inputs give equal manifests.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.artefacts import digest_of, sha256_file, write_json
from data.errors import InputError

MANIFEST_NAME = "groundtune.json"


@dataclass(frozen=True)
class FileStamp:
    """One file of the folder: its size in bytes and the SHA-256 of its content."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder was made of (`inputs`: name to digest), its `files`, and `facts` worth knowing."""

    kind: str
    inputs: Mapping[str, str]
    files: Mapping[str, FileStamp]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The digest of the folder's content; what later steps record as their input."""
        return digest_of([self.kind, {name: stamp.sha256 for name, stamp in self.files.items()}])


def write_manifest(
    folder: Path,
    kind: str,
    inputs: Mapping[str, str],
    facts: Mapping[str, Any],
    *,
    unrecorded: Collection[str] = (),
    known: Mapping[str, str] | None = None,
) -> Manifest:
    """Hash every file below `folder` and write its manifest; returns it.

    `unrecorded` names entries of `folder` that are left out: those that change when they are only read. `known` has
    the SHA-256 of files that were hashed as they were written.
    """
    inside = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = sorted(
        path.as_posix() for path in inside if path.name != MANIFEST_NAME and path.parts[0] not in unrecorded
    )
    known = known or {}
    files = {
        name: FileStamp((folder / name).stat().st_size, known.get(name) or sha256_file(folder / name))
        for name in names
    }
    manifest = Manifest(kind, dict(inputs), files, dict(facts))
    write_json(
        folder / MANIFEST_NAME,
        {
            "kind": kind,
            "inputs": dict(sorted(inputs.items())),
            "facts": manifest.facts,
            "files": {name: {"size_bytes": s.size_bytes, "sha256": s.sha256} for name, s in files.items()},
        },
    )
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, or None where there is none.

    Raises:
        InputError: the file is there and is not a manifest.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileStamp(int(s["size_bytes"]), str(s["sha256"])) for name, s in raw["files"].items()}
        return Manifest(str(raw["kind"]), raw["inputs"], files, raw["facts"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a GroundTune manifest ({error}); remove the folder and make it again"
        ) from error


def is_current(folder: Path, kind: str, inputs: Mapping[str, str]) -> bool:
    """Tell whether `folder` holds the finished result of `inputs`, with every file at its recorded size."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.kind != kind or dict(manifest.inputs) != dict(inputs):
        return False
    return not missing_files(folder, manifest)


def missing_files(folder: Path, manifest: Manifest) -> list[str]:
    """Return the names of files that are gone or have another size than the manifest records."""
    return [
        name
        for name, stamp in manifest.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != stamp.size_bytes
    ]


def folder_digest(folder: Path) -> str:
    """Return the digest of a folder's content: from its manifest, or by hashing a folder that has none."""
    manifest = read_manifest(folder)
    if manifest is not None and not missing_files(folder, manifest):
        return manifest.digest
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return digest_of(["folder", {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}])
