from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data.errors import InputError
from data.models.capacity import available_memory, require_disk, require_memory

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         100 kB\nMemAvailable:    8000000 kB\n"


def _system(folder: Path, membership: str, groups: dict[str, dict[str, str]]) -> tuple[Path, Path]:
    """Write the files of /proc and /sys/fs/cgroup that are read."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "self" / "cgroup").write_text(membership)
    for group, files in groups.items():
        (cgroups / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (cgroups / group / name).write_text(text)
    return proc, cgroups


def _group(limit: str, usage: int, cache: int) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{usage}\n",
        "memory.stat": f"anon 5\ninactive_file {cache}\n",
    }


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    proc, cgroups = _system(tmp_path, "0::/user\n", {"user": _group("max", 10, 0)})
    assert available_memory(proc, cgroups) == 8_000_000 * 1024


@pytest.mark.parametrize("group", [".", "pod", "pod/container"])
def test_the_tightest_group_counts_and_page_cache_is_free(tmp_path: Path, group: str) -> None:
    groups = {"pod/container": _group("max", 10, 0), group: _group("5000", 3000, 500)}
    assert available_memory(*_system(tmp_path, "0::/pod/container\n", groups)) == 2500


def test_a_path_outside_the_container_falls_back_to_its_root(tmp_path: Path) -> None:
    assert available_memory(*_system(tmp_path, "0::/docker/abc\n", {".": _group("5000", 3000, 500)})) == 2500


def test_version_1_groups(tmp_path: Path) -> None:
    files = {
        "memory.limit_in_bytes": "5000",
        "memory.usage_in_bytes": "1000",
        "memory.stat": "total_inactive_file 10\n",
    }
    membership = "5:cpu,cpuacct:/a\n4:memory:/a\n"
    assert available_memory(*_system(tmp_path, membership, {"memory/a": files})) == 4010


def test_too_little_memory_says_how_much(tmp_path: Path) -> None:
    proc, cgroups = _system(tmp_path, "", {})
    require_memory(8_000_000_000, "loading x", proc, cgroups)
    with pytest.raises(InputError, match=r"loading x needs 9\.0 GB of memory, 8\.2 GB are available"):
        require_memory(9_000_000_000, "loading x", proc, cgroups)


def test_a_system_that_does_not_say_passes(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) is None
    require_memory(1 << 60, "anything", tmp_path, tmp_path)


def test_too_small_a_disk_says_how_much_is_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_disk(tmp_path / "not" / "yet", free // 2, "x")
    with pytest.raises(InputError, match=rf"merging needs .* GB of disk, {tmp_path} has .* GB free"):
        require_disk(tmp_path / "not" / "yet", free * 2, "merging")
