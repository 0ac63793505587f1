"""A merged model folder to one GGUF file for llama.cpp, tensor by tensor.

The mirror of data.models.gguf_folder: its tensor names and its order of rows, read the other way. Knows the
Qwen2 and Llama architectures with byte-level BPE tokenizers; another model is refused before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from safetensors import safe_open

from data.artefacts import partial_file
from data.errors import InputError
from data.models.capacity import require_disk
from data.models.folder import check_model_folder, weights_bytes
from training.shards import StoredTensor, stored_tensors

GgufType = Literal["f16", "q8_0", "q4_0"]

_KINDS: Mapping[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_BLOCK_VALUES = 32
_BLOCK_BYTES = {GGMLQuantizationType.Q8_0: 34, GGMLQuantizationType.Q4_0: 18}
_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_PAIRED = ("self_attn.q_proj", "self_attn.k_proj")
# How llama.cpp calls a rule for what merges may not cross, by a piece of the rule that the others lack.
_QWEN2_RULE = r"\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
_LLAMA3_RULE = r"\\p{N}{1,3}"


def export_gguf(
    model: Path,
    out: Path,
    kind: GgufType,
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write `model` to the file `out`; matrices as `kind`, vectors as float32. Returns the file's size in bytes.

    Raises:
        InputError: the model is damaged, of another architecture, or its tokenizer is not byte-level BPE.
    """
    check_model_folder(model)
    if out.is_dir():
        raise InputError(f"{out}: a folder; name a file to write, as in model.gguf")
    config = _read(model / "config.json")
    architecture = _architecture(model, config)
    tensors = [item for item in stored_tensors(model) if not _is_tied_head(item.name, config)]
    names = {item.name: _gguf_name(model, item.name) for item in tensors}
    require_disk(out, weights_bytes(model), f"the GGUF file of {model.name}")
    with partial_file(out) as beside:
        writer = GGUFWriter(beside, architecture)
        try:
            _add_settings(writer, config, model.name, _KINDS[kind][1])
            _add_tokenizer(writer, model, config)
            for item in tensors:
                wanted = _stored_kind(item, kind)
                writer.add_tensor_info(
                    names[item.name], item.shape, np.dtype(np.float32), _num_bytes(item, wanted), wanted
                )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for number, item in enumerate(tensors, start=1):
                values = _values(item)
                if architecture == "llama" and any(part in item.name for part in _PAIRED):
                    values = _in_pairs(values, _heads(config, item.name))
                writer.write_tensor_data(quantize(values, _stored_kind(item, kind)))
                on_tensor(number, len(tensors))
        finally:
            writer.close()
    return out.stat().st_size


def _read(path: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return raw


def _architecture(model: Path, config: Mapping[str, Any]) -> str:
    name = str(config["model_type"])
    if name not in ("llama", "qwen2"):
        raise InputError(f"{model}: a {name} model; GGUF export knows llama and qwen2")
    if config.get("quantization_config"):
        raise InputError(f"{model}: a quantised model; export the 16-bit model it was made of")
    if _rope(config)[1] not in (None, "default"):
        raise InputError(
            f"{model}: rope scaling {_rope(config)[1]!r} is not known here; use llama.cpp's converter"
        )
    return name


def _rope(config: Mapping[str, Any]) -> tuple[float, str | None]:
    """Return the base of the rotary frequencies and how they are scaled; transformers 4 and 5 say it differently."""
    new = config.get("rope_parameters") or {}
    old = config.get("rope_scaling") or {}
    theta = new.get("rope_theta", config.get("rope_theta", 10_000.0))
    return float(theta), new.get("rope_type") or old.get("rope_type") or old.get("type")


def _is_tied_head(name: str, config: Mapping[str, Any]) -> bool:
    """llama.cpp takes the embedding where there is no output matrix."""
    return name == "lm_head.weight" and bool(config.get("tie_word_embeddings"))


def _gguf_name(model: Path, name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    parts = name.split(".")
    inner = _LAYER_NAMES.get(".".join(parts[3:-1])) if parts[:2] == ["model", "layers"] else None
    if inner is None:
        raise InputError(f"{model}: tensor {name!r} has no place in a GGUF file of this architecture")
    return f"blk.{parts[2]}.{inner}.{parts[-1]}"


def _stored_kind(item: StoredTensor, kind: GgufType) -> GGMLQuantizationType:
    if len(item.shape) < 2:
        return GGMLQuantizationType.F32
    wanted = _KINDS[kind][0]
    # Quantised blocks do not cross rows.
    return wanted if item.shape[-1] % _BLOCK_VALUES == 0 else GGMLQuantizationType.F16


def _num_bytes(item: StoredTensor, kind: GGMLQuantizationType) -> int:
    count = int(np.prod(item.shape))
    if kind in _BLOCK_BYTES:
        return count // _BLOCK_VALUES * _BLOCK_BYTES[kind]
    return count * (4 if kind == GGMLQuantizationType.F32 else 2)


def _values(item: StoredTensor) -> npt.NDArray[np.float32]:
    with safe_open(item.path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(item.name)
    values: npt.NDArray[np.float32] = tensor.float().numpy()
    return values


def _heads(config: Mapping[str, Any], name: str) -> int:
    heads = int(config["num_attention_heads"])
    return heads if "q_proj" in name else int(config.get("num_key_value_heads") or heads)


def _in_pairs(values: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """Put the rows (or the values of a bias) that rotate together side by side, as llama.cpp's Llama keeps them."""
    halves = values.reshape(num_heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _add_settings(writer: Any, config: Mapping[str, Any], name: str, file_type: LlamaFileType) -> None:
    heads = int(config["num_attention_heads"])
    head_size = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_name(name)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_rope_freq_base(_rope(config)[0])
    writer.add_rope_dimension_count(head_size)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)


def _add_tokenizer(writer: Any, model: Path, config: Mapping[str, Any]) -> None:
    from transformers import AutoTokenizer

    path = model / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: not there; GGUF export reads byte-level BPE from tokenizer.json")
    raw = _read(path)
    tokens = [f"[PAD{number}]" for number in range(int(config["vocab_size"]))]
    types = [int(TokenType.UNUSED)] * len(tokens)
    for token, number in raw["model"]["vocab"].items():
        tokens[number], types[number] = token, int(TokenType.NORMAL)
    for added in raw["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    merges = [item if isinstance(item, str) else " ".join(item) for item in raw["model"].get("merges", [])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_flavour(path, raw))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    # The chat template writes what special tokens there are.
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _flavour(path: Path, raw: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for the tokenizer's rule of splitting.

    Raises:
        InputError: not byte-level BPE, or a rule not known here, with which llama.cpp would split otherwise.
    """
    rule = json.dumps(raw.get("pre_tokenizer"), ensure_ascii=False)
    if raw["model"].get("type") != "BPE" or "ByteLevel" not in rule:
        raise InputError(
            f"{path}: not a byte-level BPE tokenizer; convert this model with llama.cpp's own script"
        )
    if _LLAMA3_RULE in rule:
        return "llama-bpe"
    if _QWEN2_RULE in rule:
        return "qwen2"
    if '"Digits"' in rule and '"individual_digits": true' in rule:
        return "smollm"
    if '"Split"' not in rule:
        return "gpt-2"
    raise InputError(f"{path}: its rule of splitting words has no known name in llama.cpp")
