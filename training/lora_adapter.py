"""A LoRA adapter in PEFT's format, read without PEFT: for each adapted matrix A, B and the scale.

Knows nothing of the base model's weights. What it cannot express as W + s B A it refuses, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from data.errors import InputError
from data.models.weights import read_header

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_OWN_COPY = ".base_layer.weight"
# Settings under which a merged matrix is not W + s B A, and how an error calls them.
_OTHER_ARITHMETIC: Mapping[str, str] = {
    "use_dora": "a DoRA adapter (use_dora), which also rescales W's columns",
    "lora_bias": "an adapter with lora_bias, which also changes biases",
    "fan_in_fan_out": "an adapter of transposed matrices (fan_in_fan_out)",
    "use_qalora": "a QALoRA adapter (use_qalora)",
    "alora_invocation_tokens": "an activated LoRA (alora_invocation_tokens), which works on some tokens only",
    "trainable_token_indices": "an adapter with trained embedding rows (trainable_token_indices)",
    "modules_to_save": "an adapter with whole trained modules (modules_to_save)",
    "target_parameters": "an adapter of bare parameters (target_parameters), as mixtures of experts have",
}


@dataclass(frozen=True)
class LoraDelta:
    """One adapted matrix: a (r, D_in), b (D_out, r), scale s.

    `weight` (D_out, D_in) is the base's own matrix where the adapter carries a copy of it, as PEFT saves the
    output matrix; else None.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    weight: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(D_out, D_in), the shape of the matrix it is added to."""
        return self.b.shape[0], self.a.shape[1]

    def product(self, room: torch.Tensor | None = None) -> torch.Tensor:
        """Return B A (D_out, D_in) in float32, not yet scaled.

        Args:
            room: float32 values, at least D_out x D_in of them, that the result may overwrite.
        """
        out = None if room is None else room[: self.shape[0] * self.shape[1]].view(self.shape)
        return torch.mm(self.b.float(), self.a.float(), out=out)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json.

    Raises:
        InputError: no adapter there.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: not there; give a PEFT adapter folder (`groundtune train run` makes one)"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a JSON object")
    return config


def read_adapter(folder: Path) -> dict[str, LoraDelta]:
    """Read the adapter: module name (as in the base) to its delta. Costs the adapter's size in memory.

    Raises:
        InputError: no adapter there, a damaged one, or one that adds more than LoRA matrices.
    """
    config = read_adapter_config(folder)
    _require_plain(folder, config)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(f"{path}: not there; only adapters in safetensors are read, never pickles")
    read_header(path)
    tensors = load_file(path)
    deltas = {}
    num_read = 0
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            if not name.endswith((".lora_B.weight", _OWN_COPY)):
                raise InputError(f"{path}: holds {name}, which is not a LoRA matrix; it cannot be merged")
            continue
        module = name.removesuffix(".lora_A.weight")
        b, weight = tensors.get(f"{module}.lora_B.weight"), tensors.get(f"{module}{_OWN_COPY}")
        if b is None:
            raise InputError(f"{path}: {module} has a lora_A and no lora_B; the adapter is damaged")
        module = module.removeprefix(_PREFIX)
        deltas[module] = _delta(path, module, a, b, weight, config)
        num_read += 2 + (weight is not None)
    if num_read != len(tensors) or not deltas:
        raise InputError(f"{path}: lora_A and lora_B do not come in pairs; the adapter is damaged")
    return deltas


def _require_plain(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"{folder}: only plain LoRA adapters can be merged (found {config.get('peft_type')!r})"
        )
    for key, reason in _OTHER_ARITHMETIC.items():
        if config.get(key):
            raise InputError(f"{folder}: {reason}: only plain LoRA can be merged; merge it with PEFT itself")
    if config.get("bias", "none") != "none":
        raise InputError(
            f"{folder}: an adapter with trained biases (bias={config['bias']!r}): merge it with PEFT"
        )
    if config.get("use_rslora") and (config.get("rank_pattern") or config.get("alpha_pattern")):
        # PEFT itself only warns here, and what it then computes has changed between its releases.
        raise InputError(
            f"{folder}: use_rslora together with rank_pattern or alpha_pattern; merge it with PEFT"
        )


def _delta(
    path: Path,
    module: str,
    a: torch.Tensor,
    b: torch.Tensor,
    weight: torch.Tensor | None,
    config: Mapping[str, Any],
) -> LoraDelta:
    rank = _of_pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _of_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise InputError(
            f"{path}: {module} has matrices of {tuple(a.shape)} and {tuple(b.shape)} where adapter_config.json "
            f"says rank {rank}; the two files are not of one adapter"
        )
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise InputError(f"{path}: {module} holds a value that is not a finite number; the training diverged")
    return LoraDelta(a, b, alpha / (rank**0.5 if config.get("use_rslora") else rank), weight)


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern that the module's name ends with, matched as PEFT does."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
