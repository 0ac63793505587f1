"""Charges a key for what a request used of the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from serving.access.budgets import Budgets
from serving.gateway.errors import too_many
from serving.gateway.record import RequestRecord

# Where an answer was cut off, the engine never said what the prompt had: of the scripts of the world about
# three bytes of UTF-8 make a token, a Chinese character or most of an English word.
_BYTES_PER_TOKEN = 3


@contextmanager
def spending(
    budgets: Budgets | None, record: RequestRecord, body: Mapping[str, Any], max_tokens: int
) -> Iterator[None]:
    """Reserve the tokens that the request may use at most, and charge those that it did.

    Raises:
        ApiError: 429, the key's budget of the day does not hold them.
    """
    key = record.key
    if budgets is None or key is None or key.tokens_per_day is None:
        yield
        return
    # A text has at most as many tokens as bytes; JSON's own characters stand for the template's.
    size_bytes = len(json.dumps(body, ensure_ascii=False).encode())
    reservation = budgets.reserve(key, size_bytes + max_tokens)
    if reservation is None:
        told = (
            f"this key may use {key.tokens_per_day} tokens a day and has {budgets.left(key)} left; this request "
            f"may need {size_bytes + max_tokens}: lower max_tokens, or try tomorrow (UTC)"
        )
        raise too_many(told, budgets.day_ends_in_s, "tokens_per_day_exceeded")
    try:
        yield
    finally:
        counted = record.tokens("total_tokens")
        if counted is None and record.num_pieces:
            counted = size_bytes // _BYTES_PER_TOKEN + record.num_pieces
        reservation.settle(counted or 0)
