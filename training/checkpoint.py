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
from training.watch import Watch
from training.world import World


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


@dataclass(frozen=True)
class Saved:
    """A checkpoint: the steps and evaluations done, and weights and moments as `training.updates` names them."""

    history: list[StepMetrics]
    evaluations: list[dict[str, Any]]
    tensors: Mapping[str, torch.Tensor]


def save_checkpoint(
    folder: Path,
    inputs: Mapping[str, str],
    tensors: Mapping[str, torch.Tensor],
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
        tensors = {**tensors, **watch.tensors()}
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


def load_checkpoint(folder: Path, inputs: Mapping[str, str]) -> Saved | None:
    """Return the checkpoint of the same inputs, or None where there is none."""
    raw = read_state(folder)
    if raw is None or raw.get("inputs") != dict(inputs):
        return None
    history = [StepMetrics(**item) for item in raw["history"]]
    return Saved(history, raw.get("evaluations", []), load_file(folder / "state.safetensors"))


def load_together(folder: Path, inputs: Mapping[str, str], world: World) -> Saved | None:
    """Return in every process what process 0 finds; the others may be on machines without its disk."""
    saved = load_checkpoint(folder, inputs) if world.is_main else None
    if world.size == 1:
        return saved
    told = None
    if saved:
        shapes = {name: list(tensor.shape) for name, tensor in saved.tensors.items()}
        told = [[asdict(item) for item in saved.history], saved.evaluations, shapes]
    told = json.loads(world.shared_text(json.dumps(told)))
    if told is None:
        return None
    history, evaluations, shapes = told
    tensors = world.shared_tensors(saved.tensors if saved else {}, shapes)
    return Saved([StepMetrics(**item) for item in history], evaluations, tensors)


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the checkpoint says of itself, or None where there is none."""
    recover_folder(folder)
    try:
        raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None
