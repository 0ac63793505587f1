"""`data generate` with the default base model served by the project: drafts of a manual, through a kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import openpyxl
import pytest

from tests.serving.live_serve import serving

pytestmark = pytest.mark.integration

MANUAL = Path(__file__).parents[1] / "data" / "generate" / "饮水机手册.md"


def test_drafts_stand_in_the_text_and_survive_a_kill(tmp_path: Path, fetched_models: Path) -> None:
    root = tmp_path / "var"
    (root / "runs" / "r").mkdir(parents=True)
    (root / "models").symlink_to(fetched_models)
    out, journal = tmp_path / "drafts.xlsx", tmp_path / "drafts.journal.jsonl"
    command = [
        *(sys.executable, "-m", "serving.cli", "data", "generate", str(MANUAL), "--name", "r"),
        *("--out", str(out), "--questions", "2", "--concurrency", "4", "--json"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "OPENAI_BASE_URL"}
    environment["GROUNDTUNE_VAR"] = str(root)
    with serving(root, "--base", "qwen2.5-coder-0.5b-instruct"):
        with subprocess.Popen(command, env=environment) as process:
            deadline = time.monotonic() + 300
            while not (journal.is_file() and journal.read_text(encoding="utf-8").count("\n") >= 2):
                assert process.poll() is None, "it was to be killed before its end"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.kill()
        before = journal.read_text(encoding="utf-8").splitlines()
        assert not out.exists()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout)
    after = journal.read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before
    keys = [json.loads(line)["key"] for line in after]
    assert len(keys) == len(set(keys)) == told["asked"]

    text = MANUAL.read_text(encoding="utf-8")
    head, *rows = openpyxl.load_workbook(out).active.iter_rows(values_only=True)
    drafts = [dict(zip(head, row, strict=True)) for row in rows]
    print(*(f"{d['score']} {d['source']} {d['Q']} -> {d['A']}" for d in drafts), sep="\n")
    assert told["drafts"] == len(drafts) >= told["asked"] // 2
    assert len({draft["Q"] for draft in drafts}) == len(drafts)
    for draft in drafts:
        assert draft["span"] in text
        assert draft["score"] >= 0.6
        assert draft["状态"] == "待审"
