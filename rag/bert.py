"""A BERT encoder with mean pooling, run on a CPU without the libraries that train such models.

multilingual-e5 and most small embedding models are of this kind. The arithmetic is that of transformers' BertModel;
three things make it faster. In bfloat16 the weight matrices lie as oneDNN's matrix product reads them, instead of being
laid out anew for each text; query, key and value are one product; and a short question pays no Python around each
layer, which took a third of its time. Loading imports torch only, which takes seconds less.

Knows nothing of an index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer
from torch.nn import functional

_Linear = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class BertShape:
    """What a folder says of its model: the sizes, the prompts, and how many tokens a text may have."""

    num_layers: int
    num_heads: int
    norm_eps: float
    max_tokens: int
    query_prompt: str
    passage_prompt: str


def read_shape(folder: Path) -> BertShape | None:
    """Return the shape of the model in a sentence-transformers folder; None where it is of another kind."""
    try:
        model = _read(folder / "config.json")
        modules = [(part["path"], part["type"].rpartition(".")[2]) for part in _read(folder / "modules.json")]
        transformer = _read(folder / "sentence_bert_config.json")
        pooling = _read(folder / modules[1][0] / "config.json")
        sentences = _read(folder / "config_sentence_transformers.json")
        tokens = _read(folder / "tokenizer_config.json")
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode") and on}
    usual = (
        model.get("model_type") == "bert"
        and model.get("hidden_act") == "gelu"
        and model.get("position_embedding_type", "absolute") == "absolute"
        and not model.get("is_decoder")
        and [kind for _, kind in modules]
        in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and modules[0][0] == ""
        and modes == {"pooling_mode_mean_tokens"}
        and pooling.get("include_prompt", True)
        and not transformer.get("do_lower_case")
        and sentences.get("default_prompt_name") is None
        and (folder / "model.safetensors").is_file()
        and (folder / "tokenizer.json").is_file()
    )
    if not usual:
        return None
    limits = (
        transformer.get("max_seq_length"),
        tokens.get("model_max_length"),
        model["max_position_embeddings"],
    )
    prompts = {"query": "", "document": "", **sentences.get("prompts", {})}
    return BertShape(
        num_layers=int(model["num_hidden_layers"]),
        num_heads=int(model["num_attention_heads"]),
        norm_eps=float(model["layer_norm_eps"]),
        max_tokens=int(min(limit for limit in limits if limit)),
        query_prompt=prompts["query"] or "",
        passage_prompt=prompts["document"] or "",
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class BertEncoder:
    """Embeds batches of texts; one thread at a time, since the tokenizer is not re-entrant.

    Args:
        shape: Of the model.
        tensors: Its weights by name, in the precision that is computed in; the word embeddings in any.
        tokenizer: Its tokenizer; it is set to cut texts.
        max_tokens: A longer text is cut.
    """

    def __init__(
        self, shape: BertShape, tensors: Mapping[str, torch.Tensor], tokenizer: Tokenizer, max_tokens: int
    ) -> None:
        self._shape = shape
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(min(max_tokens, shape.max_tokens))
        tokenizer.no_padding()
        self._words = tensors["embeddings.word_embeddings.weight"]
        # Every text is of the first type.
        self._positions = (
            tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _Norm(tensors, "embeddings.LayerNorm", shape.norm_eps)
        self._layers = [
            _Layer(tensors, f"encoder.layer.{number}.", shape) for number in range(shape.num_layers)
        ]

    @property
    def dims(self) -> int:
        """The length of a vector."""
        return int(self._words.shape[1])

    def encode(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """Return float32 vectors (len(texts), dims), L2-normalised."""
        prompt = self._shape.query_prompt if kind == "query" else self._shape.passage_prompt
        tokens = [found.ids for found in self._tokenizer.encode_batch([prompt + text for text in texts])]
        lengths = torch.tensor([len(of_text) for of_text in tokens])
        longest = int(lengths.max())
        # What stands behind the end of a text is masked: any token will do.
        ids = torch.tensor([of_text + [0] * (longest - len(of_text)) for of_text in tokens])
        with torch.inference_mode():
            states = self._states(ids, lengths)  # (B, T, D)
            inside = torch.arange(longest) < lengths[:, None]
            summed = (states.float() * inside[..., None]).sum(dim=1)
            found: NDArray[np.float32] = functional.normalize(summed, dim=-1).numpy()
            return found

    def _states(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the last layer's states (B, T, D) of tokens (B, T)."""
        num_texts, longest = ids.shape
        mask = None
        if int(lengths.min()) < longest:
            mask = (torch.arange(longest) < lengths[:, None])[:, None, None, :]  # (B, 1, 1, T), over the keys
        words = functional.embedding(ids, self._words).to(self._positions.dtype)
        states = self._norm((words + self._positions[:longest]).reshape(num_texts * longest, -1))
        for layer in self._layers:
            states = layer(states, num_texts, mask)
        return states.reshape(num_texts, longest, -1)


class _Norm:
    """Layer normalisation with its weights."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], name: str, eps: float) -> None:
        self._weight, self._bias, self._eps = tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(states, self._weight.shape, self._weight, self._bias, self._eps)


class _Layer:
    """Attention and feed-forward; states are (B·T, D)."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], name: str, shape: BertShape) -> None:
        def linear(*parts: str, gelu: bool = False) -> _Linear:
            weight = torch.cat([tensors[f"{name}{part}.weight"] for part in parts])
            bias = torch.cat([tensors[f"{name}{part}.bias"] for part in parts])
            return _packed(weight, bias, gelu=gelu) if _can_pack(weight) else _plain(weight, bias, gelu=gelu)

        self._num_heads = shape.num_heads
        self._in = linear(*(f"attention.self.{part}" for part in ("query", "key", "value")))
        self._out = linear("attention.output.dense")
        self._attention_norm = _Norm(tensors, f"{name}attention.output.LayerNorm", shape.norm_eps)
        self._up = linear("intermediate.dense", gelu=True)
        self._down = linear("output.dense")
        self._norm = _Norm(tensors, f"{name}output.LayerNorm", shape.norm_eps)

    def __call__(self, states: torch.Tensor, num_texts: int, mask: torch.Tensor | None) -> torch.Tensor:
        num_tokens, dims = states.shape
        parts = self._in(states).view(
            num_texts, num_tokens // num_texts, 3, self._num_heads, dims // self._num_heads
        )
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = attended.transpose(1, 2).reshape(num_tokens, dims)
        states = self._attention_norm(states + self._out(attended))
        return self._norm(states + self._down(self._up(states)))


def _plain(weight: torch.Tensor, bias: torch.Tensor, *, gelu: bool) -> _Linear:
    if gelu:
        return lambda states: functional.gelu(functional.linear(states, weight, bias))
    return lambda states: functional.linear(states, weight, bias)


def _can_pack(weight: torch.Tensor) -> bool:
    """Tell whether torch has oneDNN's product for weights laid out before; its own compiler uses it too."""
    return (
        weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _packed(weight: torch.Tensor, bias: torch.Tensor, *, gelu: bool) -> _Linear:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight)
    product = torch.ops.mkldnn._linear_pointwise
    # "none" is the exact function, as against "tanh".
    then, kind = ("gelu", "none") if gelu else ("none", "")
    return lambda states: product(states, laid_out, bias, then, [], kind)


def load_bert(folder: Path, shape: BertShape, dtype: torch.dtype, max_tokens: int) -> BertEncoder:
    """Load the model of `folder`, whose shape was read; nothing of it is run or unpickled.

    Raises:
        OSError, ValueError, KeyError: the folder does not hold what its configuration says.
    """
    tensors = {}
    try:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensors[name.removeprefix("bert.")] = file.get_tensor(name)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # both libraries raise classes of their own, one of them Exception itself
        raise ValueError(str(error)) from error
    # A few of the word embeddings are read for each text: as they are on disk, they need no memory of their own.
    words = "embeddings.word_embeddings.weight"
    computed = {name: tensor if name == words else tensor.to(dtype) for name, tensor in tensors.items()}
    return BertEncoder(shape, computed, tokenizer, max_tokens)
