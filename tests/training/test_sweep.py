"""A sweep of real trainings of a tiny model: the default first, taken up again, a verdict and a YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data.config import read_config, section
from data.errors import GroundTuneError, InputError, UsageError
from data.prepare import prepare_dataset
from data.settings import PrepareSection, WorkbookSection
from data.workspace import Run, Workspace
from tests.data.test_workbook import HEADER, make_workbook
from tests.training.shapes import write_base
from training.config import TrainSection
from training.held_out import rouge_l
from training.sweep import run_sweep
from training.sweep_config import SweepSection

TRAIN = {"epochs": 1, "lora_rank": 2, "lora_alpha": 4, "top_layers": 1}


@pytest.fixture
def run(workspace_root: Path, tmp_path: Path) -> Run:
    run = Workspace(workspace_root).run("r")
    rows = [["高血压", "饮食", f"第{n}个问题", f"这是第{n}个答案。"] for n in range(4)]
    workbook = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows]})
    prepare_dataset(run.dataset, WorkbookSection(file=workbook), PrepareSection(own_questions=2))
    write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    return run


def sweep(run: Run, tmp_path: Path, minutes: float, **search: Any) -> tuple[dict[str, Any], list[str]]:
    config = SweepSection(
        search=search or {"lora_rank": [1, 3]}, minutes=minutes, max_trials=2, questions=2, max_tokens=4
    )
    notes: list[str] = []
    return run_sweep(run, tmp_path / "base", {"train": TRAIN}, config, notes.append), notes


def test_the_default_is_first_and_the_winner_is_written(run: Run, tmp_path: Path) -> None:
    result, _ = sweep(run, tmp_path, 5)
    rows = result["trials"]
    assert rows[0]["is_default"] and rows[0]["state"] == "complete" and rows[0]["lora_rank"] == 2
    assert len(rows) == 2 and all(row["lora_rank"] in (1, 3) for row in rows[1:])
    best = section(read_config(run.folder / "sweep" / "best.yaml"), "train", TrainSection)
    assert best.lora_rank == (result["best"]["lora_rank"] if result["beats_default"] else 2)
    assert best.lora_alpha == 2 * best.lora_rank, "the scale changed with the rank"
    assert ("beats the default" in result["verdict"]) == result["beats_default"]
    assert (run.folder / "sweep" / "history.png").read_bytes().startswith(b"\x89PNG")
    again, notes = sweep(run, tmp_path, 5)
    assert not notes and again["trials"] == rows, "a finished sweep was gone through again"


def test_what_cannot_be_swept_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"sweep\.search\.rank: no key"):
        sweep(run, tmp_path, 1, rank=[1])
    with pytest.raises(GroundTuneError, match="default configuration did not finish within"):
        sweep(run, tmp_path, 0.001)
    (run.dataset / "paraphrases.jsonl").write_text("")
    with pytest.raises(InputError, match="no held-out questions"):
        sweep(run, tmp_path, 1)


def test_rouge_l_counts_characters() -> None:
    assert rouge_l("多吃 蔬菜", "多吃蔬菜") == 100.0
    assert rouge_l("多吃", "少吃肉") == pytest.approx(40.0)
    assert rouge_l("", "多吃") == 0.0
