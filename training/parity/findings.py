"""What a parity check can find: a cause by name, and a sentence that says where and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Cause = Literal[
    "shard", "base", "template", "tokenizer", "dtype", "merge", "truncation", "files", "logits", "tokens", "served"
]  # fmt: skip
"""shard: a weight file is cut short or changed; base: the base is of another revision than was trained on;
template and tokenizer: the same messages become other token ids; dtype: weights of another type; merge: the
merged weights are not base + s·B·A; truncation: a prompt does not reach the model whole; files: another file
is not what its manifest records; logits, tokens: same weights and prompts, other results; served: the API
answers as another model would."""

_ORDER: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True)
class Fault:
    """One reason why the gate is closed."""

    cause: Cause
    detail: str


def by_rank(faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults with those first that explain the others."""
    return sorted(faults, key=lambda fault: _ORDER.index(fault.cause))
