"""The configuration sections of this layer: `workbook`, `prepare` and `split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from data.columns import FIELDS
from data.config import Section
from data.conversations import SEED_SYSTEM_PROMPT, DatasetFormat, QuestionStyle
from data.split import SplitBy


class WorkbookSection(Section):
    """Which cells are the knowledge."""

    file: Path = Path("data/知识库内容.xlsx")
    sheet: str | None = None
    map: Annotated[dict[str, str], Field(default_factory=dict)]
    """Field (info_1, info_2, Q, A) to header; fields left out are recognised by common headers."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Take only the first so many rows."""
    skip_empty: bool = False
    paraphrases_sheet: str = "paraphrases"
    unanswerable_sheet: str = "unanswerable"
    questions: Path | None = None
    """JSON Lines of {"row": 17, "question": "..."}: held-out questions for a workbook without such a sheet."""

    @field_validator("map")
    @classmethod
    def _known_fields(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = [name for name in value if name not in FIELDS]
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; fields: {', '.join(FIELDS)}")
        return value


class PrepareSection(Section):
    """How rows become training conversations."""

    system_prompt: str = SEED_SYSTEM_PROMPT
    styles: Annotated[tuple[QuestionStyle, ...], Field(min_length=1)] = ("seed", "plain")
    """`seed`: 关于`info_1`的`info_2`问题,Q?  `plain`: the question as people type it.  `grounded`: as `tuned-rag` is
    asked, with rows in the prompt; trained on where `train.styles` names it, too."""
    grounded_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Of the rows, how many get a grounded conversation: long ones, of which few teach what all would."""
    format: DatasetFormat = "conversation"
    """An extra file beside train.jsonl in this format."""
    own_questions: Annotated[int, Field(ge=0)] = 12
    """Without held-out questions, so many rows are asked in their plain wording, which is kept from training."""
    seed: int = 17

    @field_validator("styles")
    @classmethod
    def _has_bare_questions(cls, value: tuple[QuestionStyle, ...]) -> tuple[QuestionStyle, ...]:
        if set(value) == {"grounded"}:
            raise ValueError("grounded alone teaches no bare question; name plain or seed beside it")
        return value


class SplitSection(Section):
    """Rows held back from training. By default none are: every row is knowledge, and paraphrases of it are asked."""

    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the rows whose conversations go to validation.jsonl."""
    test: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the rows whose conversations go to test.jsonl."""
    by: SplitBy = "near-duplicates"
    """What goes together: questions that are alike, or whole categories (info_1, info_2)."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Questions this alike (Jaccard of character n-grams, 1 is equal) are never on two sides."""
    seed: int = 17

    @property
    def is_asked_for(self) -> bool:
        """Whether any row is held back."""
        return bool(self.validation or self.test)
