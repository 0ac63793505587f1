"""train.dtype: auto computes in what the machine multiplies faster, and makes no other run of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.test_evaluation import base, make_run, settings  # noqa: F401
from training import base_model
from training.adapter import train_adapter
from training.base_model import with_dtype
from training.config import TrainSection
from training.lora import AdaptedModel

_CPU = TrainSection(device="cpu")


@pytest.mark.parametrize(
    ("gains", "available", "expected"),
    [
        (True, 100, "bfloat16"),
        (False, 100, "float32"),
        (False, None, "float32"),
        (False, 19, "bfloat16"),  # 10 bytes in 16 bits are 20 in float32
    ],
)
def test_the_machine_decides(
    monkeypatch: pytest.MonkeyPatch, gains: bool, available: int | None, expected: str
) -> None:
    monkeypatch.setattr(base_model, "gains_by_bfloat16", lambda: gains)
    monkeypatch.setattr(base_model, "available_memory", lambda: available)
    assert with_dtype(_CPU, 10).dtype == expected
    assert with_dtype(_CPU.model_copy(update={"dtype": "bfloat16"}), 10).dtype == "bfloat16"
    assert with_dtype(_CPU.model_copy(update={"dtype": "float32"}), 10).dtype == "float32"


def test_an_adapter_is_not_trained_again_on_another_cpu(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base: Path,  # noqa: F811
) -> None:
    run = make_run(tmp_path)
    config = settings(dtype="auto", epochs=1)
    monkeypatch.setattr(base_model, "gains_by_bfloat16", lambda: False)
    assert AdaptedModel(base, config).head.weight.dtype == torch.float32
    manifest, fresh = train_adapter(run, base, config)
    assert fresh and manifest.facts["dtype"] == "float32"
    monkeypatch.setattr(base_model, "gains_by_bfloat16", lambda: True)
    assert AdaptedModel(base, config).head.weight.dtype == torch.bfloat16
    assert train_adapter(run, base, config) == (manifest, False)
    # Nor one that was trained before the machine decided.
    assert not train_adapter(run, base, config.model_copy(update={"dtype": "bfloat16"}))[1]
    assert train_adapter(run, base, config.model_copy(update={"dtype": "float32"}))[1]
