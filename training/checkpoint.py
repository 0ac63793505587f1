"""What a killed training run goes on from: adapter weights, optimizer moments, the steps and evaluations done.

safetensors and JSON, never a pickle. A checkpoint belongs to the digest of its inputs; another run's is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data.artefacts import folder_beside, recover_folder, write_json
from data.errors import GroundTuneError
from training.watch import Watch


@dataclass(frozen=True)
class StepMetrics:
    """One optimizer step, as a line of metrics.jsonl; `tokens_per_s` is the examples' own tokens, no padding."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    tokens_per_s: float


def save_checkpoint(
    folder: Path,
    inputs: Mapping[str, str],
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    history: list[StepMetrics],
    watch: Watch,
    *,
    settings: Mapping[str, Any],
    is_finished: bool,
) -> None:
    """Replace the checkpoint in `folder` by the state after `len(history)` steps.

    `settings` is what a later run of other inputs is told this one was made with (training.resumption).
    """
    with folder_beside(folder) as beside:
        tensors = {f"weight.{name}": tensor.detach() for name, tensor in weights.items()}
        for name, parameter in weights.items():
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
        tensors |= watch.tensors()
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, beside / "state.safetensors"
        )
        write_json(
            beside / "state.json",
            {
                "inputs": dict(inputs),
                "settings": dict(settings),
                "is_finished": is_finished,
                "history": [asdict(item) for item in history],
                "evaluations": [asdict(item) for item in watch.points],
            },
        )


def load_checkpoint(
    folder: Path,
    inputs: Mapping[str, str],
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    watch: Watch,
) -> list[StepMetrics]:
    """Copy a checkpoint of the same inputs into weights, optimizer and watch; return its steps ([]: none there).

    Raises:
        GroundTuneError: the checkpoint is of these inputs and does not fit the model.
    """
    raw = read_state(folder)
    if raw is None or raw.get("inputs") != dict(inputs):
        return []
    history = [StepMetrics(**item) for item in raw["history"]]
    tensors = load_file(folder / "state.safetensors")
    try:
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(tensors[f"weight.{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(len(history))),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter.device),
                }
    except (KeyError, RuntimeError) as error:
        raise GroundTuneError(
            f"{folder}: does not fit this model ({error}); remove the folder and train again"
        ) from error
    watch.restore(raw.get("evaluations", ()), tensors)
    return history


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the checkpoint says of itself, or None where there is none."""
    recover_folder(folder)
    try:
        raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None
