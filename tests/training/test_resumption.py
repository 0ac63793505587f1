"""A checkpoint of other inputs is noticed, named and kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data.artefacts import folder_beside
from tests.training.test_evaluation import base, lines, make_run, settings  # noqa: F401
from training.adapter import train_adapter


class KilledError(Exception):
    """Stands for the end of the process."""


def train_until(monkeypatch: pytest.MonkeyPatch, step: int, *arguments: Any) -> None:
    from training.progress import TrainingProgress

    advance = TrainingProgress.advance

    def stop(self: TrainingProgress, metrics: Any, num_steps: int) -> None:
        advance(self, metrics, num_steps)
        if metrics.step == step:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(TrainingProgress, "advance", stop)
        train_adapter(*arguments)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lora_rank": 2}, "lora_rank 4 (now 2)"),
        ({"attention": "varlen"}, "attention 'mask' (now 'varlen')"),
        ({"evaluation": {"every_epochs": 1, "patience": 9}}, "evaluation.patience None (now 9)"),
    ],
)
def test_another_setting_begins_anew_and_says_why(
    tmp_path: Path,
    base: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    named: str,
) -> None:
    run = make_run(tmp_path)
    first = settings(attention="mask")
    train_until(monkeypatch, 3, run, base, first)
    kept = json.loads((run.checkpoints / "adapter" / "state.json").read_text())
    train_adapter(run, base, first.model_validate({**first.model_dump(), **changed}))
    said = capsys.readouterr().err
    assert f"an unfinished training of {len(kept['history'])} steps was begun with {named}" in said
    assert [line["step"] for line in lines(run)[0]] == list(range(1, len(lines(run)[0]) + 1))
    aside = run.checkpoints / "adapter.set-aside"
    assert json.loads((aside / "state.json").read_text()) == kept
    # As the note says: what was set aside can be gone on with.
    shutil.rmtree(run.checkpoints / "adapter")
    aside.rename(run.checkpoints / "adapter")
    manifest, _ = train_adapter(run, base, first)
    assert "note:" not in capsys.readouterr().err and manifest.facts["num_steps"] == len(lines(run)[0])


def test_other_rows_begin_anew_and_say_so(
    tmp_path: Path,
    base: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(tmp_path)
    train_until(monkeypatch, 3, run, base, settings())
    make_run(tmp_path, validation=0.1)
    train_adapter(run, base, settings())
    assert "another train.jsonl" in capsys.readouterr().err


def test_what_only_rounds_otherwise_goes_on_and_says_so(
    tmp_path: Path,
    base: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run(tmp_path)
    train_until(monkeypatch, 3, run, base, settings(device="auto"))
    train_adapter(run, base, settings(device="cpu"))
    assert "goes on after step 2 with device 'auto' (now 'cpu')" in capsys.readouterr().err


def test_a_checkpoint_killed_between_its_renames_is_gone_on_from(
    tmp_path: Path,
    base: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tmp_path)
    train_until(monkeypatch, 3, run, base, settings())
    checkpoint = run.checkpoints / "adapter"
    real = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == ".adapter.partial":
            raise KilledError
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "rename", killed)
        with folder_beside(checkpoint):
            pass
    assert not checkpoint.exists()
    trained = []
    monkeypatch.setattr("training.updates.Updates.step", lambda *a: trained.append(1) or (1.0, 1.0))
    train_until(monkeypatch, 3, run, base, settings(checkpoint_every_s=99))
    assert len(trained) == 1, "steps before the checkpoint were trained again"
