"""A tiny random InternLM v1 folder, and what its model computes, in plain torch and without transformers."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import sentencepiece
import torch
from torch.nn.functional import embedding, linear, silu

LAYERS, WIDTH, HEADS, INNER = 2, 32, 4, 48
TEXTS = [
    "高血压会有哪些症状？头痛、头晕、心悸。", "A patient asks: how much salt a day?", "每天不超过5克盐。",
    "What  about   two spaces and numbers 2024?", "糖尿病人可以吃水果吗", "答案在知识库里",
]  # fmt: skip


def write_sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Train a BPE model of InternLM's kind: bytes for unknown characters, turn tokens as defined symbols."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.98,
        user_defined_symbols=["<eoh>", "<eoa>"],
        minloglevel=2,
    )
    path.write_bytes(made.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())


def write_internlm(folder: Path, *, shards: int = 2, rotary: str | None = None) -> dict[str, torch.Tensor]:
    """Write the folder as it is published (pickled shards, Python beside); returns its float32 weights."""
    folder.mkdir(parents=True)
    vocab_size = write_sentencepiece(folder / "tokenizer.model").get_piece_size()
    torch.manual_seed(3)
    weights = _weights(vocab_size)
    config = {
        "architectures": ["InternLMForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_internlm.InternLMForCausalLM"},
        "bias": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "silu",
        "hidden_size": WIDTH, "initializer_range": 0.02, "intermediate_size": INNER, "model_type": "internlm",
        "max_position_embeddings": 128, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "float16", "vocab_size": vocab_size,
    }  # fmt: skip
    if rotary is not None:
        config["rotary"] = {"base": 10000, "type": rotary}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_internlm.py").write_text("raise SystemExit('the folder\\'s code was run')\n")
    names = list(weights)
    table = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        part = {name: weights[name] for name in names[number::shards]}
        if number == 0:
            part["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(WIDTH // HEADS // 2)
        torch.save(part, folder / file)
        table |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    return weights


def _weights(vocab_size: int) -> dict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab_size, WIDTH)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        for name in "qkvo":
            shapes |= {
                f"{at}self_attn.{name}_proj.weight": (WIDTH, WIDTH),
                f"{at}self_attn.{name}_proj.bias": (WIDTH,),
            }
        shapes |= {f"{at}mlp.{name}_proj.weight": (INNER, WIDTH) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (WIDTH, INNER)
        shapes |= {f"{at}{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (WIDTH,), "lm_head.weight": (vocab_size, WIDTH)}
    return {name: torch.randn(shape) * 0.3 + (1.0 if "norm" in name else 0) for name, shape in shapes.items()}


def internlm_logits(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Return InternLM v1's logits (T, V) of token ids (T,): rotary halves, RMS norms, biases in attention."""
    size, length = WIDTH // HEADS, len(ids)
    frequency = 10000.0 ** (-torch.arange(0, size, 2).float() / size)
    angle = torch.outer(torch.arange(length).float(), frequency).repeat(1, 2)  # (T, size)
    future = torch.full((length, length), -math.inf).triu(1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weights[name]

    def turned(x: torch.Tensor) -> torch.Tensor:
        half = torch.cat((-x[..., size // 2 :], x[..., : size // 2]), -1)
        return x * angle.cos() + half * angle.sin()

    x = embedding(ids, weights["model.embed_tokens.weight"])
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        seen = norm(x, f"{at}input_layernorm.weight")
        q, k, v = (
            linear(seen, weights[f"{at}self_attn.{n}_proj.weight"], weights[f"{at}self_attn.{n}_proj.bias"])
            .view(length, HEADS, size)
            .transpose(0, 1)
            for n in "qkv"
        )
        scores = (turned(q) @ turned(k).transpose(1, 2)) / math.sqrt(size) + future
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, WIDTH)
        x = x + linear(mixed, weights[f"{at}self_attn.o_proj.weight"], weights[f"{at}self_attn.o_proj.bias"])
        seen = norm(x, f"{at}post_attention_layernorm.weight")
        gate, up = (linear(seen, weights[f"{at}mlp.{n}_proj.weight"]) for n in ("gate", "up"))
        x = x + linear(silu(gate) * up, weights[f"{at}mlp.down_proj.weight"])
    return linear(norm(x, "model.norm.weight"), weights["lm_head.weight"])
