"""Whether the disk and the memory are large enough, asked before the work that would find out the hard way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def require_disk(path: Path, size_bytes: int, purpose: str) -> None:
    """Check that the disk which holds (or will hold) `path` has `size_bytes` free for `purpose`.

    Raises:
        InputError: it has less.
    """
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size_bytes:
        raise InputError(
            f"{purpose} needs {_readable(size_bytes)} of disk, {there} has {_readable(free)} free; "
            "make room, or let $GROUNDTUNE_VAR name a folder on a larger disk"
        )


def require_memory(size_bytes: int, purpose: str, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> None:
    """Check that `size_bytes` of memory can be had for `purpose`; passes where the system does not say.

    Raises:
        InputError: less is available.
    """
    available = available_memory(proc, cgroups)
    if available is not None and available < size_bytes:
        raise InputError(
            f"{purpose} needs {_readable(size_bytes)} of memory, {_readable(available)} are available; end "
            "other programs, give the container more, or choose a smaller model"
        )


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Return the bytes of memory that can still be had without swapping, or None where Linux does not say.

    The smallest of the machine's MemAvailable and what each control group above this process leaves of its
    limit. Page cache counts as available, as the kernel gives it up.
    """
    amounts = [*_machine_memory(proc / "meminfo"), *_group_memory(proc / "self" / "cgroup", cgroups)]
    return min(amounts, default=None)


def _machine_memory(meminfo: Path) -> Iterator[int]:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _group_memory(membership: Path, cgroups: Path) -> Iterator[int]:
    for line in _lines(membership):
        _, controllers, group = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            root = cgroups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = cgroups / "memory"
        else:
            continue
        folder = root / group.strip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(root):
                yield from _left_of_limit(place, *names)


def _left_of_limit(place: Path, limit_name: str, usage_name: str, cache_name: str) -> Iterator[int]:
    limit, usage = _lines(place / limit_name), _lines(place / usage_name)
    if not limit or not usage or limit[0] == "max":
        return
    cache = sum(
        int(line.split()[1]) for line in _lines(place / "memory.stat") if line.startswith(f"{cache_name} ")
    )
    yield max(0, int(limit[0]) - int(usage[0]) + cache)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _readable(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
