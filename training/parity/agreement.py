"""Where two greedy answers to one prompt part, and whether rounding is reason enough.

Two ways to compute the same model in bf16 differ in the last bits of a logit. Where the two largest logits lie
closer than that, either may win, and what follows is another answer; a prompt that parts at such a near-tie
says nothing against the model. One that parts where the winner was clear does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.parity.generation import Greedy

# UTF-8: a character of four bytes lacks one at least.
_MAX_UNFINISHED_BYTES = 3


@dataclass(frozen=True)
class Agreement:
    """`parted_at`: the first token that differs, None where all `num_tokens` agree; `margin`: the reference's
    lead of the first logit over the second there."""

    num_tokens: int
    parted_at: int | None
    margin: float | None
    near_tie: bool

    @property
    def same(self) -> bool:
        """Every compared token agrees."""
        return self.parted_at is None


def agreement(reference: Greedy, other: Sequence[int], margin_limit: float) -> Agreement:
    """Compare token ids; an answer that ends early parts where it ends."""
    shared = zip(reference.ids, other, strict=False)
    place = next((i for i, (one, two) in enumerate(shared) if one != two), None)
    if place is None and len(other) != len(reference.ids):
        place = min(len(other), len(reference.ids))
    return _at(reference, place, margin_limit)


def text_agreement(
    reference: Greedy, text: str, decode: Callable[[Sequence[int]], str], margin_limit: float
) -> Agreement:
    """Compare with an answer of which only the text is known: it parts after the longest prefix that it begins with."""
    text = text.strip()
    if decode(reference.ids).strip() == text:
        return _at(reference, None, margin_limit)
    place = 0
    while place < len(reference.ids) and text.startswith(_whole(decode(reference.ids[: place + 1])).strip()):
        place += 1
    # The reference may say all of the text and more, or the text go on where the reference's ended.
    return _at(reference, min(place, len(reference.ids) - 1), margin_limit)


def _whole(text: str) -> str:
    """Return the text without the signs for the first bytes of a character that is not finished."""
    kept = text.rstrip("\ufffd")
    return kept if len(text) - len(kept) <= _MAX_UNFINISHED_BYTES else text


def _at(reference: Greedy, place: int | None, margin_limit: float) -> Agreement:
    if place is None:
        return Agreement(len(reference.ids), None, None, near_tie=False)
    margin = reference.margins[place] if place < len(reference.margins) else None
    return Agreement(
        len(reference.ids), place, margin, near_tie=margin is not None and margin <= margin_limit
    )


def share_in_agreement(agreements: Sequence[Agreement]) -> float:
    """Return the share of prompts that agree, or part at a near-tie."""
    return sum(item.same or item.near_tie for item in agreements) / len(agreements)
