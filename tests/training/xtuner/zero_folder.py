"""A checkpoint as XTuner leaves it, without XTuner: one file, or DeepSpeed's folder of any number of ranks."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

CONFIG = """
from peft import LoraConfig
pretrained_model_name_or_path = "./models/tiny"
rank = 4
raise SystemExit("the configuration was run")
model = dict(lora=dict(type=LoraConfig, r=rank, lora_alpha=8, lora_dropout=0.1, bias="none"))
"""


def trained_names(adapter: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors under the names that they have in XTuner's model."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    return {f"llm.{name.replace('.weight', '.default.weight')}": t for name, t in tensors.items()}


def write_zero(folder: Path, weights: dict[str, torch.Tensor], num_ranks: int, stage: int) -> Path:
    """Write DeepSpeed's folder: the flat float32 vector shared out among ranks, stage 3 tensor by tensor."""
    folder.mkdir(parents=True)
    shapes = [{name: tensor.shape for name, tensor in weights.items()}]
    states = {"module": {n: t.bfloat16() for n, t in weights.items()}, "param_shapes": shapes}
    torch.save(states, folder / "mp_rank_00_model_states.pt")
    if stage == 3:
        shares = [[_padded(t.flatten(), num_ranks)[r] for t in weights.values()] for r in range(num_ranks)]
        parts = [torch.cat(share) for share in shares]
    else:
        flat = torch.cat([tensor.flatten() for tensor in weights.values()])
        parts = list(_padded(flat, num_ranks, 2 * num_ranks))
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    for rank, part in enumerate(parts):
        optimizer = {"zero_stage": stage, "partition_count": [num_ranks], key: [part]}
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer}, folder / name)
    return folder


def _padded(flat: torch.Tensor, num_parts: int, align: int | None = None) -> tuple[torch.Tensor, ...]:
    size = math.ceil(flat.numel() / (align or num_parts)) * (align or num_parts)
    return torch.nn.functional.pad(flat, (0, size - flat.numel())).chunk(num_parts)
