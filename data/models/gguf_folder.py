"""A GGUF file to an ordinary Hugging Face model folder in bf16, block of rows by block of rows.

The quantised values are taken as they are (a block's scale times its small integers) and rounded to bf16
once. Knows the Qwen2 and Llama architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.artefacts import write_json
from data.errors import InputError
from data.models.bpe_tokenizer import BpeVocabulary, write_tokenizer
from data.models.gguf_file import GgufFile, GgufTensor
from data.models.progress import Advance, no_progress
from data.models.weights import RowSource, write_weights

_EMBEDDING = "token_embd.weight"
_HEAD = "output.weight"
_TOP_NAMES = {
    _EMBEDDING: "model.embed_tokens.weight",
    _HEAD: "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Two quantisations of one matrix agree far better than this, two different matrices not at all.
_TIED_COSINE = 0.95
_TIED_ROWS = 256


@dataclass(frozen=True)
class Architecture:
    """How one of GGUF's architectures is called and laid out in transformers.

    `paired_rows`: GGUF keeps the rows of q and k in pairs that rotate together; transformers keeps the
    first of all pairs, then the second of all.
    """

    model_type: str
    model_class: str
    tokenizer_class: str
    paired_rows: bool
    config: Mapping[str, Any]


ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen2": Architecture(
        "qwen2",
        "Qwen2ForCausalLM",
        "Qwen2Tokenizer",
        paired_rows=False,
        config={"use_sliding_window": False, "sliding_window": None},
    ),
    # The plain fast class takes tokenizer.json as it is. GPT2Tokenizer, which SmolLM2's authors name, is
    # rebuilt by transformers 5 with GPT-2's own splitting, which leaves numbers whole.
    "llama": Architecture(
        "llama",
        "LlamaForCausalLM",
        "PreTrainedTokenizerFast",
        paired_rows=True,
        config={"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    ),
}


class _GgufModel:
    """A GGUF file's contents in the terms of its architecture."""

    def __init__(self, file: GgufFile) -> None:
        name = file.required("general.architecture")
        if name not in ARCHITECTURES:
            raise InputError(
                f"{file.path}: architecture {name!r} is not known; known: {', '.join(ARCHITECTURES)}"
            )
        self.architecture = ARCHITECTURES[name]
        self._file = file
        self._section = str(name)
        self._tensors = dict(file.tensors)
        if _EMBEDDING not in self._tensors:
            raise InputError(f"{file.path}: the tensor {_EMBEDDING!r} is missing")
        self.vocab_size = self._tensors[_EMBEDDING].shape[0]
        head = self._tensors.get(_HEAD)
        self.tied = head is None or _same_matrix(self._tensors[_EMBEDDING], head)
        if self.tied and head is not None:
            # Tied embeddings that are in the file twice: the head's copy is quantised less coarsely.
            self._tensors[_EMBEDDING] = self._tensors.pop(_HEAD)

    def count(self, key: str) -> int:
        """Return a whole number of the architecture's section of the metadata."""
        return int(self.number(key))

    def number(self, key: str) -> float:
        """Return a number of the architecture's section of the metadata."""
        return float(self._file.required(f"{self._section}.{key}"))

    def vocabulary(self) -> BpeVocabulary:
        """Return the tokenizer's lists."""
        file = self._file
        if file.value("tokenizer.ggml.model") != "gpt2":
            raise InputError(f"{file.path}: only byte-level BPE tokenizers (GGUF's 'gpt2') are known")
        eos = int(file.required("tokenizer.ggml.eos_token_id"))
        return BpeVocabulary(
            flavour=str(file.required("tokenizer.ggml.pre")),
            tokens=file.required("tokenizer.ggml.tokens"),
            types=file.required("tokenizer.ggml.token_type"),
            merges=file.required("tokenizer.ggml.merges"),
            bos_id=file.value("tokenizer.ggml.bos_token_id"),
            eos_id=eos,
            pad_id=int(file.value("tokenizer.ggml.padding_token_id", eos)),
            unk_id=file.value("tokenizer.ggml.unknown_token_id"),
            chat_template=file.value("tokenizer.chat_template"),
        )

    def row_sources(self) -> list[RowSource]:
        """Return the tensors under transformers' names."""
        sources = []
        for name, tensor in self._tensors.items():
            order = None
            if self.architecture.paired_rows and name.endswith(("attn_q.weight", "attn_k.weight")):
                heads = "attention.head_count" if "attn_q" in name else "attention.head_count_kv"
                order = _halves_order(tensor.shape[0], self.count(heads))
            sources.append(RowSource(self._name(name), tensor.shape, partial(tensor.rows, order=order)))
        return sources

    def _name(self, name: str) -> str:
        if name in _TOP_NAMES:
            return _TOP_NAMES[name]
        parts = name.split(".")
        if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
            return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
        raise InputError(f"{self._file.path}: tensor {name!r} is not known for {self._section}")


def _same_matrix(one: GgufTensor, other: GgufTensor) -> bool:
    if one.shape != other.shape:
        return False
    a, b = (tensor.rows(0, min(_TIED_ROWS, tensor.shape[0])).ravel() for tensor in (one, other))
    return bool(a @ b > _TIED_COSINE * np.linalg.norm(a) * np.linalg.norm(b))


def _halves_order(num_rows: int, num_heads: int) -> npt.NDArray[np.intp]:
    """Return, for each row of a Llama's q or k in transformers' order, its row in GGUF's paired order."""
    return np.arange(num_rows).reshape(num_heads, -1, 2).swapaxes(1, 2).reshape(-1)


def write_gguf_folder(path: Path, folder: Path, advance: Advance = no_progress) -> int:
    """Write the model of GGUF file `path` into `folder`; returns its number of parameters.

    `advance` is told the number of parameters written since its last call; their sum is the result.

    Raises:
        InputError: the file is not GGUF, or of an architecture or tokenizer not known here.
    """
    model = _GgufModel(GgufFile(path))
    tensors = model.row_sources()
    vocabulary = model.vocabulary()
    write_tokenizer(folder, vocabulary, model.architecture.tokenizer_class, model.count("context_length"))
    write_json(folder / "config.json", _config(model, vocabulary))
    write_json(folder / "generation_config.json", _generation_config(vocabulary))
    return write_weights(folder, tensors, advance)


def _config(model: _GgufModel, vocabulary: BpeVocabulary) -> dict[str, Any]:
    """Return config.json in transformers 4's words, which 4.48, 5.x and LMDeploy all read."""
    num_layers = model.count("block_count")
    config: dict[str, Any] = {
        "architectures": [model.architecture.model_class],
        "attention_dropout": 0.0,
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "hidden_act": "silu",
        "hidden_size": model.count("embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": model.count("feed_forward_length"),
        "max_position_embeddings": model.count("context_length"),
        "model_type": model.architecture.model_type,
        "num_attention_heads": model.count("attention.head_count"),
        "num_hidden_layers": num_layers,
        "num_key_value_heads": model.count("attention.head_count_kv"),
        "pad_token_id": vocabulary.pad_id,
        # Six digits undo the file's fp32: 9.99999997e-07 for what the model's authors wrote as 1e-06.
        "rms_norm_eps": float(f"{model.number('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_scaling": None,
        "rope_theta": model.number("rope.freq_base"),
        "tie_word_embeddings": model.tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": model.vocab_size,
        **model.architecture.config,
    }
    if model.architecture.model_type == "qwen2":
        config["max_window_layers"] = num_layers
    return config


def _generation_config(vocabulary: BpeVocabulary) -> dict[str, Any]:
    """Return only the ids that end or fill a generation.

    Published files also set temperature, top_p, top_k and a repetition penalty. An engine that reads them
    would answer the same request differently from one that does not, and the penalty keeps a model from
    repeating a retrieved row word for word; sampling is the request's to set.
    """
    return {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.stop_ids,
        "pad_token_id": vocabulary.pad_id,
    }
