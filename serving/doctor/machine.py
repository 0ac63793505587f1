"""Hardware, Python and packages: what holds for every run."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from data.workspace import Workspace
from serving.doctor.findings import Finding

_PACKAGE = "groundtune"
# What the quickstart's largest step takes, with some to spare; README says the same.
_MEMORY_BYTES = 8e9
_DISK_BYTES = 6e9
_PYTHONS = ((3, 11), (3, 12))


def check_machine(workspace: Workspace) -> Iterator[Finding]:
    """Yield what there is to say of hardware and software."""
    yield _python()
    yield _cores()
    yield _memory()
    yield _disk(workspace.root)
    yield from _packages()
    yield _torch()


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] in _PYTHONS:
        return Finding("python", "ok", version)
    return Finding("python", "fault", version, "install Python 3.11 or 3.12 and run `make clean install`")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _field("/proc/cpuinfo", "flags")
    kind = "computes in bfloat16" if "bf16" in flags else "no bfloat16 arithmetic"
    detail = f"{cores} cores, {kind}"
    if cores < 2:
        return Finding("cpu", "note", detail, "two cores or more: answers take minutes on one")
    if flags and "bf16" not in flags:
        return Finding(
            "cpu", "note", detail, "training and answering take about twice as long as on one that has it"
        )
    return Finding("cpu", "ok", detail)


def _memory() -> Finding:
    total, available = (_kib("MemTotal"), _kib("MemAvailable"))
    if total is None or available is None:
        return Finding("memory", "note", "unknown on this system")
    detail = f"{available / 1e9:.1f} GB free of {total / 1e9:.1f}"
    if available < _MEMORY_BYTES:
        return Finding(
            "memory",
            "note",
            detail,
            "free 8 GB for the default models, or take smaller ones (models.base=smollm2-135m-instruct)",
        )
    return Finding("memory", "ok", detail)


def _disk(root: Path) -> Finding:
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "fault", f"{place} is not writable", "set GROUNDTUNE_VAR to a folder that is")
    if free < _DISK_BYTES:
        return Finding("disk", "note", detail, "free 6 GB, or set GROUNDTUNE_VAR to a folder with more room")
    return Finding("disk", "ok", detail)


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what pyproject.toml asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in metadata.requires(_PACKAGE) or []]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "fault", f"{_PACKAGE} is not installed", "run `make install`")
        return
    num_right = 0
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(f"package {requirement.name}", "fault", "not installed", "run `make clean install`")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            num_right += 1
        else:
            yield Finding(
                f"package {requirement.name}",
                "fault",
                f"{version}; needed is {requirement.specifier}",
                "run `make clean install`",
            )
    yield Finding("packages", "ok", f"{num_right} as pyproject.toml wants them")


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "fault", f"does not import: {error}", "run `make clean install`")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))
        return Finding("torch", "ok", f"{torch.__version__}; GPUs: {names}")
    if Path("/proc/driver/nvidia/version").is_file():
        return Finding(
            "torch",
            "note",
            f"{torch.__version__} sees no GPU, and the machine has NVIDIA's driver",
            "install the CUDA build of torch that pytorch.org names for the driver",
        )
    return Finding("torch", "ok", f"{torch.__version__}, on the CPU")


def _kib(name: str) -> float | None:
    """Return an entry of /proc/meminfo in bytes."""
    value = _field("/proc/meminfo", name).split()
    return float(value[0]) * 1024 if value else None


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
