"""A random folder of InternLM v1's shape, as it is published: pickled float16 shards and a SentencePiece model.

Small: what is asked is whether conversion and engine compute the same, not how fast. Needs sentencepiece.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, int]] = {
    "small": {"layers": 6, "hidden": 1024, "heads": 8, "inner": 2816, "vocabulary": 4000},
    "tiny": {"layers": 2, "hidden": 64, "heads": 4, "inner": 128, "vocabulary": 1500},
}
_BIAS_SCALE = 0.3


def write_internlm_shape(folder: Path, texts: Sequence[str], size: str = "small") -> dict[str, Any]:
    """Write the folder; returns its sizes. `texts` train the tokenizer."""
    import sentencepiece
    import torch

    sizes = SIZES[size]
    folder.mkdir(parents=True)
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=made, model_type="bpe", vocab_size=sizes["vocabulary"],
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.98, user_defined_symbols=["<eoh>", "<eoa>"], minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue()).get_piece_size()
    config = {
        "architectures": ["InternLMForCausalLM"], "auto_map": {"AutoModelForCausalLM": "x.InternLMForCausalLM"},
        "bias": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "silu",
        "hidden_size": sizes["hidden"], "initializer_range": 0.02, "intermediate_size": sizes["inner"],
        "model_type": "internlm", "max_position_embeddings": 2048, "num_attention_heads": sizes["heads"],
        "num_hidden_layers": sizes["layers"], "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        "torch_dtype": "float16", "vocab_size": pieces,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(3)
    weights = {name: _values(name, shape) for name, shape in _shapes(sizes, pieces).items()}
    table: dict[str, str] = {}
    for number in range(2):
        file = f"pytorch_model-{number + 1:05d}-of-00002.bin"
        part = {name: weights[name] for name in list(weights)[number::2]}
        torch.save(part, folder / file)
        table |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}), encoding="utf-8")
    return {**sizes, "vocabulary": pieces, "num_parameters": sum(value.numel() for value in weights.values())}


def _values(name: str, shape: tuple[int, ...]) -> Any:
    """Return float16 values that keep activations near 1 through the layers, with biases that count."""
    import torch

    if "norm" in name:
        return (1 + 0.1 * torch.randn(shape)).half()
    if name.endswith(".bias"):
        return (_BIAS_SCALE * torch.randn(shape)).half()
    return (torch.randn(shape) * shape[-1] ** -0.5).half()


def _shapes(sizes: dict[str, int], pieces: int) -> dict[str, tuple[int, ...]]:
    hidden, inner = sizes["hidden"], sizes["inner"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (pieces, hidden)}
    for layer in range(sizes["layers"]):
        at = f"model.layers.{layer}."
        for name in "qkvo":
            shapes[f"{at}self_attn.{name}_proj.weight"] = (hidden, hidden)
            shapes[f"{at}self_attn.{name}_proj.bias"] = (hidden,)
        shapes |= {f"{at}mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{at}{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    return {**shapes, "model.norm.weight": (hidden,), "lm_head.weight": (pieces, hidden)}
