"""The parity gate with a small real model, trained, merged and served by `groundtune serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.live_serve import serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
ROWS = [["Topic", "Kind", f"What is rule {n}", f"Rule {n} says: wait {n} minutes."] for n in range(8)]
SETTINGS = (
    "models.base=smollm2-135m-instruct",
    "train.epochs=1",
    "train.top_layers=4",
    "serve.cache_tokens=4096",
)


def groundtune(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments],
        env={**os.environ, "GROUNDTUNE_VAR": str(root), "HF_HUB_OFFLINE": "1"},
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_trained_merged_and_served_agree(tmp_path: Path, fetched_models: Path) -> None:
    root = tmp_path / "place"
    root.mkdir()
    (root / "models").symlink_to(fetched_models)
    workbook = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *ROWS]})
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    for command in (
        ("data", "prepare", "--workbook", str(workbook), "--name", "r", *options),
        ("train", "run", "--name", "r", *options),
        ("train", "merge", "--name", "r"),
    ):
        done = groundtune(root, *command)
        assert done.returncode == 0, done.stderr
    with serving(root) as served:
        checked = groundtune(root, "train", "verify", "--name", "r", "--prompts", "4", "--max-tokens", "12")
        assert checked.returncode == 0, checked.stderr
        report = json.loads((served.run_folder / "parity.json").read_text())
    assert report["passed"] and report["arms"]["served"]["model"] == "tuned"
    counts = [item["prompt_tokens"] for item in report["prompts"]]
    assert report["arms"]["served"]["prompt_tokens"] == counts
    assert report["arms"]["served"]["num_parted"] == 0
