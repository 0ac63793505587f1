"""The BERT encoder that learns: rag.bert's arithmetic, with gradients and dropout. Needs PyTorch only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

_WORDS = "embeddings.word_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_NORM_EPS = 1e-12


class Encoder(torch.nn.Module):
    """A BERT with a mean over tokens; all but the embeddings of words, positions and types learns.

    Args:
        weights: By their names in a BERT folder.
        num_heads: Of the attention.
        dropout: Of the states behind the embeddings and behind each half of a layer.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], num_heads: int, dropout: float, device: str
    ) -> None:
        super().__init__()
        self._num_heads = num_heads
        self._dropout = dropout
        self._words = weights[_WORDS].float().to(device)
        self._positions = (weights[_POSITIONS].float() + weights[_TYPES].float()[0]).to(device)
        learned = {name: tensor for name, tensor in weights.items() if is_learned(name)}
        self._num_layers = 1 + max(int(name.split(".")[2]) for name in learned if ".layer." in name)
        # A parameter's name may hold no dot.
        self._learned = torch.nn.ParameterDict(
            {name.replace(".", "/"): tensor.float().to(device).clone() for name, tensor in learned.items()}
        )

    def learned(self) -> dict[str, torch.Tensor]:
        """Return the tensors that learn, by their names in a BERT folder."""
        return {name.replace("/", "."): tensor.detach() for name, tensor in self._learned.items()}

    def forward(self, tokens: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return vectors (B, D), L2-normalised, of tokens (B, T) where `inside` (B, T) is true."""
        states = self._norm(
            self._words[tokens] + self._positions[: tokens.shape[1]], "embeddings.LayerNorm", drop=True
        )
        for number in range(self._num_layers):
            states = self._layer(states, inside[:, None, None, :], f"encoder.layer.{number}.")
        return functional.normalize((states * inside[..., None]).sum(1).float(), dim=-1)

    def _layer(self, states: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
        batch, length, dims = states.shape
        query, key, value = (
            self._linear(states, f"{name}attention.self.{part}")
            .view(batch, length, self._num_heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = self._linear(
            attended.transpose(1, 2).reshape(batch, length, dims), f"{name}attention.output.dense"
        )
        states = self._norm(states + self._drop(attended), f"{name}attention.output.LayerNorm")
        inner = functional.gelu(self._linear(states, f"{name}intermediate.dense"))
        return self._norm(
            states + self._drop(self._linear(inner, f"{name}output.dense")), f"{name}output.LayerNorm"
        )

    def _linear(self, states: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(states, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"))

    def _norm(self, states: torch.Tensor, name: str, *, drop: bool = False) -> torch.Tensor:
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        found = functional.layer_norm(states, weight.shape, weight, bias, _NORM_EPS)
        return self._drop(found) if drop else found

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return functional.dropout(states, self._dropout, self.training)

    def _tensor(self, name: str) -> torch.Tensor:
        found: torch.Tensor = self._learned[name.replace(".", "/")]
        return found


def is_learned(name: str) -> bool:
    """Tell whether the tensor of this name learns."""
    return name.startswith(("encoder.", "embeddings.LayerNorm."))


def embed(encoder: Encoder, texts: Sequence[torch.Tensor], device: str) -> torch.Tensor:
    """Return the vectors (len(texts), D) of texts in tokens; computed in bfloat16."""
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True).to(device)
    inside = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(device)
    with torch.autocast(device, torch.bfloat16):
        found: torch.Tensor = encoder(tokens, inside)
    return found
