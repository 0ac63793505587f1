"""A run's training conversations as its base model sees them: token lengths, and the first of them rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.config import section
from data.conversations import Conversation, conversation_of_line
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.preview import preview
from data.token_lengths import count_tokens, draw_token_lengths
from data.workspace import Run, open_workspace


@dataclass(frozen=True)
class ModelView:
    """Facts for the result, and the rendered conversations."""

    facts: dict[str, Any]
    rendered: list[str]


def view_dataset(
    run: Run, raw: Mapping[str, Mapping[str, Any]], model: str | None, *, num_previewed: int, draw: bool
) -> ModelView:
    """Look at RUN/dataset/train.jsonl with a model's tokenizer; draws RUN/token-lengths.png if asked.

    Raises:
        InputError: the model is not there, or has no tokenizer or template to look with.
    """
    folder = resolve_model(open_workspace(), model or section(raw, "models", ModelsConfig).base)
    made = _training_conversations(run.dataset / "train.jsonl")
    facts: dict[str, Any] = {}
    if draw and made:
        picture = run.folder / "token-lengths.png"
        lengths = count_tokens(made, folder)
        limit = raw.get("train", {}).get("max_tokens")
        draw_token_lengths(lengths, folder.name, picture, limit if isinstance(limit, int) else None)
        facts["token_lengths"] = {
            "model": folder.name,
            "median": lengths.quantile(0.5),
            "p95": lengths.quantile(0.95),
            "max": lengths.quantile(1),
            "picture": str(picture),
        }
    return ModelView(facts, preview(made[:num_previewed], folder) if num_previewed else [])


def _training_conversations(path: Path) -> list[Conversation]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [conversation_of_line(json.loads(line)) for line in lines if line.strip()]
