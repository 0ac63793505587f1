"""Small GGUF files, written with gguf's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers import pre_tokenizers

HIDDEN, HEADS, KV_HEADS, FFN, LAYERS = 64, 4, 2, 128, 2
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ("h e", "he l", "Ġ h")
TOKENS = (*BYTES, "he", "hel", "Ġh", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>", "[PAD263]")
TYPES = (*(1 for _ in BYTES), 1, 1, 1, 3, 3, 3, 4, 5)
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

Tensors = dict[str, npt.NDArray[np.float32]]


def random_tensors(seed: int = 0, bias: bool = True) -> Tensors:
    """Return a model's tensors under GGUF's names, in PyTorch's shapes."""
    random = np.random.default_rng(seed)
    head = HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        widths = {"attn_q": HIDDEN, "attn_k": head * KV_HEADS, "attn_v": head * KV_HEADS}
        for name, width in widths.items():
            shapes[f"blk.{layer}.{name}.weight"] = (width, HIDDEN)
            if bias:
                shapes[f"blk.{layer}.{name}.bias"] = (width,)
        shapes[f"blk.{layer}.attn_output.weight"] = (HIDDEN, HIDDEN)
        shapes[f"blk.{layer}.attn_norm.weight"] = (HIDDEN,)
        shapes[f"blk.{layer}.ffn_norm.weight"] = (HIDDEN,)
        shapes[f"blk.{layer}.ffn_gate.weight"] = (FFN, HIDDEN)
        shapes[f"blk.{layer}.ffn_up.weight"] = (FFN, HIDDEN)
        shapes[f"blk.{layer}.ffn_down.weight"] = (HIDDEN, FFN)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_tiny_gguf(
    path: Path, tensors: Tensors, architecture: str = "qwen2", flavour: str = "qwen2", alignment: int = 32
) -> Path:
    """Write `tensors` to `path`, matrices as Q8_0 and vectors as fp32, with a byte-level tokenizer."""
    writer = GGUFWriter(path, architecture)
    writer.add_custom_alignment(alignment)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1000000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(flavour)
    writer.add_token_list(list(TOKENS))
    writer.add_token_types(list(TYPES))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(TOKENS.index("<|endoftext|>"))
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    writer.add_pad_token_id(TOKENS.index("<|endoftext|>"))
    writer.add_chat_template(TEMPLATE)
    for name, values in tensors.items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_stored(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what is left of `values` after quantising (matrices only)."""
    from gguf.quants import dequantize

    if values.ndim == 1:
        return values
    stored: npt.NDArray[np.float32] = dequantize(
        quantize(values, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0
    )
    return stored
