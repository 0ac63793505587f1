"""The configuration section `sweep`: what is varied, for how long, and on what it is judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from data.config import Section


class Range(Section):
    """A number between two bounds, drawn evenly, or evenly by its logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


def _usual() -> dict[str, Range | list[int | float | str]]:
    return {
        "learning_rate": Range(low=3e-4, high=4e-3, log=True),
        "lora_rank": [8, 16, 32],
        "epochs": [1, 2, 3],
    }


class SweepSection(Section):
    """A search over keys of the section `train`: each a list of choices, or low and high."""

    search: Annotated[dict[str, Range | list[int | float | str]], Field(min_length=1)] = Field(
        default_factory=_usual
    )
    minutes: Annotated[float, Field(gt=0)] = 10.0
    """All trials together, the default configuration's too; a resumed sweep has what is left."""
    questions: Annotated[int, Field(ge=1)] = 12
    """Held-out questions that every trial answers."""
    max_tokens: Annotated[int, Field(ge=1)] = 96
    max_trials: Annotated[int, Field(ge=1)] = 100
    """Trials, finished or pruned, after which the sweep ends even if minutes are left."""
    seed: int = 17
