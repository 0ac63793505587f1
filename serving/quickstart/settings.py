"""The `ask` section: the questions that a quickstart puts to the four models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data.config import Section


class AskSection(Section):
    """How many held-out questions are asked, and how."""

    questions: Annotated[int, Field(ge=0)] = 12
    """Evenly spaced over the held-out questions, from a start that `seed` draws; 0 asks all."""
    concurrency: Annotated[int, Field(ge=1)] = 12
    """Questions put to one model at a time. More is faster; what a batch holds changes the last bit of bfloat16
    arithmetic, so another number may give other words here and there. With the same number a run repeats itself."""
    max_tokens: Annotated[int, Field(ge=1)] = 144
    """Longest answer."""
    seed: int = 17
