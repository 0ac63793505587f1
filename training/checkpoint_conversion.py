"""`train convert`: a checkpoint of XTuner to an adapter in PEFT's format, without XTuner.

CHECKPOINT is iter_N.pth or epoch_N.pth: one file that torch.save wrote, or DeepSpeed's folder with a file of
model states and one of optimizer states a rank. LoRA weights are taken from the optimizer's float32 copies where
there are any (ZeRO 1 and 2 share them out among the ranks), else as they stand. Rank and alpha are read from
the rendered configuration as text: it is parsed and never run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from data.artefacts import folder_beside, sha256_file, write_json
from data.errors import InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest, write_manifest
from training.lora_adapter import CONFIG_FILE, WEIGHTS_FILE
from training.xtuner.lora_settings import LoraSettings, read_lora_settings
from training.zero_checkpoint import read_checkpoint

_LORA = re.compile(r"^(?:module\.)?llm\.(base_model\.model\..+)\.lora_(A|B)(?:\.\w+)?\.weight$")


def convert_checkpoint(
    checkpoint: Path,
    out: Path,
    config: Path | None = None,
    *,
    base: str | None = None,
    inputs: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the adapter of `checkpoint` to `out`; float32, as it was trained.

    `config` is the file that XTuner was given; None: the copy that XTuner keeps beside its checkpoints.

    Raises:
        InputError: no such checkpoint, one that holds more than weights, or no LoRA in it.
    """
    settings_file = config or _config_beside(checkpoint)
    settings = read_lora_settings(settings_file)
    made_of = dict(inputs or {"checkpoint": _digest(checkpoint), "config": sha256_file(settings_file)})
    previous = read_manifest(out)
    if previous is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds something that is no adapter; remove it or give another folder")
    if previous is not None and is_current(out, "adapter", made_of):
        return previous
    tensors = _lora_tensors(checkpoint, read_checkpoint(checkpoint), settings)
    with folder_beside(out) as beside:
        save_file(tensors, beside / WEIGHTS_FILE, metadata={"format": "pt"})
        write_json(beside / CONFIG_FILE, _adapter_config(tensors, settings, base or settings.base))
        known = {"lora_rank": settings.rank, "lora_alpha": settings.alpha, "checkpoint": checkpoint.name}
        return write_manifest(beside, "adapter", made_of, {**(facts or {}), **known})


def _digest(checkpoint: Path) -> str:
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: no such checkpoint; give XTuner's iter_N.pth or epoch_N.pth")
    return sha256_file(checkpoint) if checkpoint.is_file() else folder_digest(checkpoint)


def _config_beside(checkpoint: Path) -> Path:
    found = sorted(checkpoint.absolute().parent.glob("*.py"))
    # DeepSpeed leaves a script of this name beside the configuration.
    found = [path for path in found if path.name != "zero_to_fp32.py"]
    if len(found) != 1:
        raise InputError(
            f"{checkpoint}: which of {len(found)} files beside it is the configuration it was trained with? "
            "Give it with --config"
        )
    return found[0]


def _lora_tensors(
    checkpoint: Path, weights: Mapping[str, torch.Tensor], settings: LoraSettings
) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, tensor in weights.items():
        if match := _LORA.match(name):
            tensors[f"{match[1]}.lora_{match[2]}.weight"] = tensor.detach().float().contiguous().clone()
        elif ".modules_to_save." in name or "lora_" in name:
            raise InputError(
                f"{checkpoint}: holds {name}, which is more than plain LoRA; convert it with XTuner"
            )
    if not tensors:
        raise InputError(f"{checkpoint}: holds no LoRA weights; a checkpoint of whole-model training?")
    for name, tensor in sorted(tensors.items()):
        rank = tensor.shape[0 if ".lora_A." in name else 1] if tensor.ndim == 2 else None
        if rank != settings.rank:
            raise InputError(
                f"{checkpoint}: {name} is {tuple(tensor.shape)}, the configuration says rank {settings.rank}; "
                "give the configuration of this training with --config"
            )
        if not torch.isfinite(tensor).all():
            raise InputError(f"{checkpoint}: {name} holds a value that is not a finite number; it diverged")
    return dict(sorted(tensors.items()))


def _adapter_config(tensors: Mapping[str, torch.Tensor], settings: LoraSettings, base: str) -> dict[str, Any]:
    modules = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in tensors})
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
