"""Tiny base models of the shapes that are merged, converted and exported, and random adapters on them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from tests.serving.tiny_model import write_tiny_model

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": None,
}  # fmt: skip
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_base(folder: Path, shape: str, *, tied: bool, dtype: torch.dtype, shard: str = "1GB") -> Path:
    """Write a random `llama` (with attention biases) or `qwen2` and a tokenizer to `folder`; returns it."""
    write_tiny_model(folder)
    old = AutoModelForCausalLM.from_pretrained(folder).config
    common: dict[str, Any] = {**SIZES, "vocab_size": old.vocab_size, "eos_token_id": old.eos_token_id}
    torch.manual_seed(5)
    if shape == "llama":
        config: Any = LlamaConfig(**common, tie_word_embeddings=tied, attention_bias=True)
    else:
        config = Qwen2Config(**common, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def write_adapter(folder: Path, base: Path, std: float = 0.1, **settings: Any) -> Path:
    """Write an adapter with random A and B to `folder`; returns it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    arguments: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **arguments))
        torch.manual_seed(6)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=std)
        adapted.save_pretrained(str(folder))
    return folder


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """Return the state of PEFT's own merge in the base's dtype."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state: dict[str, torch.Tensor] = (
            PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().state_dict()
        )
    return state
