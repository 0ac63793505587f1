from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data.artefacts import folder_beside, write_text
from data.manifest import folder_digest, is_current, read_manifest, write_manifest


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with folder_beside(target) as beside:
        write_text(beside / "a", "1")
        assert not target.exists()
    with pytest.raises(RuntimeError), folder_beside(target) as beside:
        write_text(beside / "a", "2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "out"
    script = (
        "import os, signal; from pathlib import Path; from data.artefacts import folder_beside\n"
        f"with folder_beside(Path({str(target)!r})) as b:\n"
        "    (b / 'torn').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert not target.exists()
    with folder_beside(target) as beside:
        assert not list(beside.iterdir())
        write_text(beside / "a", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_replacement_killed_between_its_renames_is_undone(tmp_path: Path) -> None:
    retired = tmp_path / ".out.retired"
    retired.mkdir()
    (retired / "a").write_text("old")
    with pytest.raises(RuntimeError), folder_beside(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_a_manifest_tells_what_is_current(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "1")
    manifest = write_manifest(tmp_path, "dataset", {"x": "1"}, {"n": 1})
    assert read_manifest(tmp_path) == manifest
    assert is_current(tmp_path, "dataset", {"x": "1"})
    assert not is_current(tmp_path, "dataset", {"x": "2"})
    assert not is_current(tmp_path, "model", {"x": "1"})
    digest = folder_digest(tmp_path)
    write_text(tmp_path / "a", "22")
    assert not is_current(tmp_path, "dataset", {"x": "1"})
    assert folder_digest(tmp_path) != digest
