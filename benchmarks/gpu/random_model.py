"""Model folders of a known shape with random weights: for speed, where what is answered does not matter.

The vocabulary is that of the tokenizer folder given, so that every token decodes. The layers' matrices are bf16, fp8 in
blocks of 128 by 128 as DeepSeek publishes it, or AWQ's 4 bits in groups of 128. Knows nothing of serving.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SHARD_LAYERS = 8
_BLOCK = 128
# What config.json says of the layers' matrices.
QUANTIZATIONS: Mapping[str, Mapping[str, Any]] = {
    "bf16": {},
    "fp8": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [_BLOCK, _BLOCK],
    },
    "awq": {"quant_method": "awq", "bits": 4, "group_size": _BLOCK, "version": "gemm", "zero_point": True},
}  # fmt: skip

# InternLM-chat-7B's shape as Llama's (biases on attention), and Qwen2.5-7B's grouped-query attention.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "7b-mha": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "attention_bias": True,
    },
    "7b-gqa": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
    },
    "tiny": {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "attention_bias": True,
    },
}  # fmt: skip


def make_random_model(
    shape: str, tokenizer: Path, out: Path, device: str, weights: str = "bf16"
) -> dict[str, Any]:
    """Write `out`, an ordinary Hugging Face folder; returns its size in parameters and bytes.

    Args:
        tokenizer: A folder with tokenizer.json and tokenizer_config.json; both are copied.
        device: Where the random numbers are made, as in `cuda`.
        weights: Of QUANTIZATIONS.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    ids = [*vocabulary["model"]["vocab"].values(), *(token["id"] for token in vocabulary["added_tokens"])]
    # A multiple of 128, as GPU kernels like it; the few ids without a token have no chance among the others.
    vocab_size = -(-(max(ids) + 1) // 128) * 128
    settings = dict(SHAPES[shape])
    config = AutoConfig.for_model(
        settings.pop("model_type"),
        **settings,
        vocab_size=vocab_size,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    shapes = {name: tuple(weight.shape) for name, weight in empty.named_parameters()}
    out.mkdir(parents=True)
    torch.manual_seed(17)
    index: dict[str, str] = {}
    size = 0
    for shard, names in enumerate(_shards(list(shapes)), start=1):
        file = f"model-{shard:05d}.safetensors"
        tensors: dict[str, Any] = {}
        for name in names:
            kind = weights if "layers" in name and len(shapes[name]) == 2 else "bf16"
            tensors |= _tensors(name, shapes[name], kind, device)
        index |= dict.fromkeys(tensors, file)
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        save_file(tensors, str(out / file), metadata={"format": "pt"})
    _write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})
    _write_json(
        out / "config.json",
        {
            **config.to_dict(),
            "architectures": [type(empty).__name__],
            # transformers 5 writes these under other names, which engines made before it do not read.
            "torch_dtype": "bfloat16",
            "rope_theta": 10000.0,
            **({"quantization_config": QUANTIZATIONS[weights]} if weights != "bf16" else {}),
        },
    )
    for path in tokenizer.iterdir():
        if path.name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
            shutil.copyfile(path, out / path.name)
    # An embedding is looked up, not read whole, for a token.
    embedding = 2 * vocab_size * int(config.hidden_size)
    return {
        "shape": shape,
        "weights": weights,
        "num_parameters": sum(map(_product, shapes.values())),
        "size_bytes": size,
        "read_a_token_bytes": size - embedding,
        "vocab_size": vocab_size,
    }


def _tensors(name: str, shape: tuple[int, ...], kind: str, device: str) -> dict[str, Any]:
    """Return a weight's tensors on the CPU, small enough that activations neither vanish nor overflow."""
    import torch

    if "norm" in name:
        return {name: torch.ones(shape, dtype=torch.bfloat16)}
    if kind == "fp8":
        values = (torch.randn(shape, dtype=torch.bfloat16, device=device) * 64).to(torch.float8_e4m3fn)
        blocks = torch.full([-(-side // _BLOCK) for side in shape], 0.02 / 64)
        return {name: values.cpu(), f"{name}_scale_inv": blocks}
    if kind == "awq":
        rows, columns = shape[1], shape[0]  # in, out
        stem, groups = name.removesuffix(".weight"), -(-rows // _BLOCK)
        return {
            f"{stem}.qweight": _four_bits((rows, columns // 8), device),
            f"{stem}.qzeros": _four_bits((groups, columns // 8), device),
            # Weight less zero is 6.5 on average, both being anything from 0 to 15.
            f"{stem}.scales": torch.full((groups, columns), 0.02 / 6.5, dtype=torch.float16),
        }
    return {name: (torch.randn(shape, dtype=torch.bfloat16, device=device) * 0.02).cpu()}


def _four_bits(shape: tuple[int, ...], device: str) -> Any:
    import torch

    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int64, device=device).to(torch.int32).cpu()


def _shards(names: list[str]) -> list[list[str]]:
    """Return the tensors' names, some layers a shard."""
    shards: dict[int, list[str]] = {}
    for name in names:
        parts = name.split(".")
        layer = int(parts[parts.index("layers") + 1]) // _SHARD_LAYERS if "layers" in parts else -1
        shards.setdefault(layer, []).append(name)
    return list(shards.values())


def _product(shape: tuple[int, ...]) -> int:
    number = 1
    for side in shape:
        number *= side
    return number


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
