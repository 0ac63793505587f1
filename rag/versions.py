"""Where an index's versions lie, and which one is served. Knows nothing of what a version holds.

    INDEX/current -> versions/VERSION   a link, replaced by renaming another over it
    INDEX/versions/VERSION/             never changed once it has that name
    INDEX/vectors.sqlite3               the vectors of texts (rag.vectors)
    INDEX/.lock                         held by whoever writes

A reader holds a shared lock (flock) on the folder of the version that it reads, so that a version in use is not
removed: Chroma opens some of its files only when it is searched. The kernel drops the locks of a killed process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.manifest import MANIFEST_NAME, Manifest, missing_files, read_manifest

CURRENT = "current"
VERSIONS = "versions"


@dataclass(frozen=True)
class VersionInfo:
    """A version that is there: when it was made (seconds since the epoch) and what it says of itself."""

    version: str
    folder: Path
    made_at: float
    is_current: bool
    manifest: Manifest

    @property
    def size_bytes(self) -> int:
        """What its files take on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class HeldVersion:
    """A version that is not removed before `release`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor

    @property
    def version(self) -> str:
        """Its name."""
        return self.folder.name

    def release(self) -> None:
        """Let it go; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def current_version(index: Path) -> str | None:
    """Return the version that a reader would open now; None where nothing is indexed.

    One look at a link: cheap enough to ask before every question.
    """
    try:
        return (index / CURRENT).readlink().name
    except OSError:
        return None


def version_folder(index: Path, version: str) -> Path:
    """Return the folder of a version, which need not be there."""
    return index / VERSIONS / version


def read_current_manifest(index: Path) -> Manifest | None:
    """Return the current version's manifest, or None where nothing is indexed."""
    version = current_version(index)
    return None if version is None else read_manifest(version_folder(index, version))


def hold_current(index: Path) -> HeldVersion:
    """Hold the current version for reading.

    Raises:
        InputError: nothing is indexed.
    """
    while (version := current_version(index)) is not None:
        folder = version_folder(index.resolve(), version)
        if held := _hold(folder):
            return held
        if current_version(index) == version:
            raise InputError(f"{folder}: the current version is gone; run `groundtune rag index` again")
    if (index / MANIFEST_NAME).is_file():
        raise InputError(
            f"{index}: made by an earlier version of GroundTune; run `groundtune rag index` again"
        )
    raise InputError(f"{index}: no index; run `groundtune rag index` first")


def _hold(folder: Path) -> HeldVersion | None:
    """Lock a version's folder for reading; None when it is removed meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return HeldVersion(folder, descriptor)
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextmanager
def writing(index: Path) -> Iterator[None]:
    """Be the only writer of `index`, waiting for another one; removes what killed ones left."""
    (index / VERSIONS).mkdir(parents=True, exist_ok=True)
    with (index / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{index}: another process is writing; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in [*index.glob(f".{CURRENT}.*"), *(index / VERSIONS).glob(".*")]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        yield


def list_versions(index: Path) -> list[VersionInfo]:
    """Return the versions that are there, the newest first."""
    current = current_version(index)
    found = []
    for folder in (index / VERSIONS).glob("[!.]*"):
        try:
            manifest = read_manifest(folder)
            made_at = (folder / MANIFEST_NAME).stat().st_mtime
        except FileNotFoundError:
            # Removed by a writer between the two.
            continue
        if manifest is not None:
            found.append(VersionInfo(folder.name, folder, made_at, folder.name == current, manifest))
    return sorted(found, key=lambda info: (info.made_at, info.version), reverse=True)


def make_current(index: Path, version: str) -> None:
    """Let readers open `version` from now on; those that have another open keep it. For a writer."""
    beside = index / f".{CURRENT}.{os.getpid()}.partial"
    beside.unlink(missing_ok=True)
    beside.symlink_to(Path(VERSIONS) / version)
    beside.replace(index / CURRENT)


def remove_old_versions(index: Path, keep: int) -> list[str]:
    """Remove all but the `keep` newest versions, the current one and those in use; for a writer.

    Returns:
        The removed ones. What is in use goes in a later run.
    """
    old = [info for info in list_versions(index) if not info.is_current]
    removed = []
    for info in old[keep:]:
        descriptor = os.open(info.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            retired = info.folder.with_name(f".{info.version}.retired")
            info.folder.rename(retired)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        shutil.rmtree(retired, ignore_errors=True)
        removed.append(info.version)
    return removed


def roll_back(index: Path, version: str | None = None) -> VersionInfo:
    """Make `version` the current one; without it, the one made before the current one.

    Raises:
        InputError: there is no such version, or it is not whole.
    """
    if current_version(index) is None:
        raise InputError(f"{index}: no index; run `groundtune rag index` first")
    with writing(index):
        target = _target(index, list_versions(index), version)
        if missing := missing_files(target.folder, target.manifest):
            raise InputError(
                f"{target.folder}: not whole ({missing[0]} is gone or damaged); choose another of "
                "`groundtune rag versions`"
            )
        make_current(index, target.version)
    return target


def _target(index: Path, known: list[VersionInfo], version: str | None) -> VersionInfo:
    names = ", ".join(info.version for info in known)
    if version is not None:
        for info in known:
            if info.version == version:
                return info
        raise InputError(f"{index}: no version {version!r}; there are {names}")
    place = next((place for place, info in enumerate(known) if info.is_current), len(known))
    if place + 1 >= len(known):
        raise InputError(f"{index}: no version older than the current one; there are {names}")
    return known[place + 1]
