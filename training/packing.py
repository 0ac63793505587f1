"""Packing examples into forward passes without padding and without one example seeing another.

A pack is  [shared prefix][rest of example 1][rest of example 2]...  Every example attends to the prefix and
to itself, with the positions it would have alone, so a pack computes exactly what separate sequences would.
The prefix (system prompt and template) is the same in every conversation; packing it once saves its cost
in all but one of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from training.examples import Example


@dataclass(frozen=True)
class Pack:
    """One forward pass of P tokens.

    Attributes:
        ids: (1, P) token ids.
        positions: (1, P) each token's position in its own example.
        segments: (P,) example number, 0 for the shared prefix.
        predicting: (L,) indexes of the tokens whose successor is learned.
        labels: (L,) those successors.
        num_example_tokens: what the examples would hold without the shared prefix, padding not counted.
        lengths: tokens of the prefix (0: nothing is shared) and of each example's rest, in order; their sum is P.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    predicting: torch.Tensor
    labels: torch.Tensor
    num_example_tokens: int
    lengths: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """P."""
        return self.ids.shape[1]

    def to(self, device: torch.device) -> Pack:
        """Return the pack with its tensors on `device`, without waiting for the copy."""
        if self.ids.device == device:
            return self
        names = ("ids", "positions", "segments", "predicting", "labels")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def attention_mask(pack: Pack, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask (1, 1, P, P): 0 where a token may look, the dtype's minimum where it may not."""
    segments, positions = pack.segments, pack.positions[0]
    same = segments[:, None] == segments[None, :]
    to_prefix = (segments == 0)[None, :]
    causal = positions[:, None] >= positions[None, :]
    allowed = (same | to_prefix) & causal
    mask = torch.full(allowed.shape, torch.finfo(dtype).min, dtype=dtype, device=segments.device)
    return mask.masked_fill(allowed, 0.0)[None, None]


def pack_examples(
    examples: Sequence[Example], pack_tokens: int, seed: int, *, share_prefix: bool = True
) -> list[Pack]:
    """Pack examples, longest first into the fullest pack that takes them, then shuffle the packs.

    Without `share_prefix` every conversation stays whole, as attention by lengths needs it. A pack holds at
    most `pack_tokens` tokens, or one example that is longer. The same arguments give the same packs.
    """
    prefix = _common_prefix(examples) if share_prefix else ()
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda place: -len(examples[place].ids))
    bins: list[list[int]] = []
    room: list[int] = []
    for place in order:
        size = len(examples[place].ids) - len(prefix)
        fitting = [number for number, left in enumerate(room) if left >= size]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            bins[best].append(place)
            room[best] -= size
        else:
            bins.append([place])
            room.append(max(0, pack_tokens - len(prefix) - size))
    packs = [_pack([examples[place] for place in sorted(members)], prefix) for members in bins]
    random.Random(seed + 1).shuffle(packs)
    return packs


def _common_prefix(examples: Sequence[Example]) -> tuple[int, ...]:
    """Return the longest run of prompt tokens with which every example begins, one short of any label."""
    if len(examples) < 2:
        return ()
    first, last = min(e.ids for e in examples), max(e.ids for e in examples)
    shortest_prompt = min(len(e.ids) - e.num_labels for e in examples)
    length = 0
    for a, b in zip(first, last, strict=False):
        # The token that predicts the first label belongs to the example, not to the prefix.
        if a != b or length >= shortest_prompt - 1:
            break
        length += 1
    return first[:length]


def _pack(members: Sequence[Example], prefix: tuple[int, ...]) -> Pack:
    ids, positions, segments = list(prefix), list(range(len(prefix))), [0] * len(prefix)
    predicting: list[int] = []
    labels: list[int] = []
    lengths = [len(prefix)]
    for number, example in enumerate(members, start=1):
        start = len(ids)
        ids += example.ids[len(prefix) :]
        positions += range(len(prefix), len(example.ids))
        segments += [number] * (len(ids) - start)
        lengths.append(len(ids) - start)
        first_label = len(ids) - example.num_labels
        predicting += range(first_label - 1, len(ids) - 1)
        labels += ids[first_label:]
    return Pack(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        segments=torch.tensor(segments),
        predicting=torch.tensor(predicting),
        labels=torch.tensor(labels),
        num_example_tokens=sum(len(example.ids) for example in members),
        lengths=tuple(lengths),
    )
