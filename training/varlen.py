"""Attention within each conversation of a pack, as an attention function of transformers.

On CUDA it is torch's own variable-length flash attention; elsewhere one call of scaled dot-product attention a
conversation, which computes the same. Knows the lengths of the conversations, not what is in them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

NAME = "groundtune_varlen"


@dataclass(frozen=True)
class Spans:
    """Where the conversations of a pack lie: `lengths` in order, `offsets` (N + 1,) int32 on the pack's device."""

    lengths: tuple[int, ...]
    offsets: torch.Tensor
    longest: int


def spans_of(lengths: Sequence[int], device: torch.device) -> Spans:
    """Return the spans of conversations that follow one another; empty ones are left out."""
    kept = tuple(length for length in lengths if length)
    offsets = [0]
    for length in kept:
        offsets.append(offsets[-1] + length)
    return Spans(kept, torch.tensor(offsets, dtype=torch.int32).to(device, non_blocking=True), max(kept))


def register() -> str:
    """Make the function known to transformers; returns the name to give as `attn_implementation`."""
    AttentionInterface.register(NAME, _forward)
    return NAME


def _forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    spans: Spans | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query: (1, H, P, D), key and value: (1, G, P, D) -> (1, P, H, D); `attention_mask` is not looked at."""
    shares = query.shape[1] != key.shape[1]
    if spans is None:  # generation within the training process: one conversation, whole or by its next token
        is_whole = query.shape[2] == key.shape[2]
        made = functional.scaled_dot_product_attention(
            query, key, value, is_causal=is_whole, scale=scaling, enable_gqa=shares
        )
        return made.transpose(1, 2), None
    if query.is_cuda:
        made = _flash(
            query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), spans, scaling
        )
        return made[None], None
    parts = [
        functional.scaled_dot_product_attention(*part, is_causal=True, scale=scaling, enable_gqa=shares)
        for part in zip(
            torch.split(query, list(spans.lengths), dim=2),
            torch.split(key, list(spans.lengths), dim=2),
            torch.split(value, list(spans.lengths), dim=2),
            strict=True,
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: Spans, scale: float | None
) -> torch.Tensor:
    """query: (P, H, D), key and value: (P, G, D) -> (P, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 says causal by `is_causal`, later ones by the window; the scale and shared heads came later too.
    known = inspect.signature(varlen_attn).parameters
    settings: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    default = query.shape[-1] ** -0.5
    if scale is not None and abs(scale - default) > 1e-9:
        if "scale" in known:
            settings["scale"] = scale
        else:
            query = query * (scale / default)
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            settings["enable_gqa"] = True
        else:
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    made: Any = varlen_attn(
        query, key, value, spans.offsets, spans.offsets, spans.longest, spans.longest, **settings
    )
    out: torch.Tensor = made[0] if isinstance(made, tuple) else made
    return out
