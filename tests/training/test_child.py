"""A failed child is a failed step, told with the end of its log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data.errors import GroundTuneError
from training.child import run_child


def test_output_is_logged_and_told_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import os; print(os.environ['WORD']); print(os.getcwd())"
    argv = [sys.executable, "-c", code]
    run_child("step", argv, tmp_path / "logs" / "x.log", tmp_path, {"WORD": "值"}, lines.append)
    assert lines == ["值", str(tmp_path)]
    assert (tmp_path / "logs" / "x.log").read_text(encoding="utf-8").splitlines() == lines


def test_a_failure_carries_status_and_last_lines(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('before'); raise SystemExit(3)"]
    with pytest.raises(
        GroundTuneError, match=r"(?s)step ended with status 3; last lines of .*x\.log:.*before"
    ):
        run_child("step", argv, tmp_path / "x.log", tmp_path, {})
