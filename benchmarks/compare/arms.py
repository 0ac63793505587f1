"""What is compared: models by the ids under which servers offer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.errors import UsageError


@dataclass(frozen=True)
class Arm:
    """One model; `url` is None for one of the run's own server. `label` is what the user wrote, `body` goes into
    each request."""

    label: str
    model: str
    url: str | None
    body: Mapping[str, Any] = field(default_factory=dict)


def parse_arm(text: str) -> Arm:
    """Return the arm of a MODEL or MODEL@URL text.

    Raises:
        UsageError: it is neither.
    """
    model, at, url = text.strip().partition("@http")
    if not model or (at and "://" not in f"http{url}"):
        raise UsageError(f"arm {text!r}: expected MODEL or MODEL@URL, as in gpt-x@https://api.example.com/v1")
    return Arm(text.strip(), model, f"http{url}".rstrip("/") if at else None)


def parse_arms(texts: Sequence[str]) -> list[Arm]:
    """Return the arms of MODEL or MODEL@URL texts.

    Raises:
        UsageError: fewer than two, one twice, or a URL that is none.
    """
    arms = [parse_arm(text) for text in texts]
    labels = [arm.label for arm in arms]
    if len(set(labels)) < len(labels):
        raise UsageError(f"--arms: an arm is named twice ({', '.join(labels)})")
    if len(arms) < 2:
        raise UsageError("--arms: name at least two, as in base,tuned,base-rag,tuned-rag")
    return arms
