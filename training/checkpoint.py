"""What a killed training run goes on from: adapter weights, optimizer moments, and the steps done.

safetensors and JSON, never a pickle. A checkpoint belongs to the digest of its inputs; another run's is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from data.artefacts import folder_beside, write_json
from data.errors import GroundTuneError


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
) -> None:
    """Replace the checkpoint in `folder` by the state after `len(history)` steps."""
    with folder_beside(folder) as beside:
        tensors = {f"weight.{name}": tensor.detach() for name, tensor in weights.items()}
        for name, parameter in weights.items():
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, beside / "state.safetensors"
        )
        write_json(
            beside / "state.json", {"inputs": dict(inputs), "history": [asdict(item) for item in history]}
        )


def load_checkpoint(
    folder: Path,
    inputs: Mapping[str, str],
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> list[StepMetrics]:
    """Copy a checkpoint of the same inputs into the weights and the optimizer; return its steps ([]: none there).

    Raises:
        GroundTuneError: the checkpoint is of these inputs and does not fit the model.
    """
    try:
        raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if raw.get("inputs") != dict(inputs):
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
    return history
