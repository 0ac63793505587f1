"""Rows to training conversations, in the formats that training tools read.

The seed format is the one of the tutorial that this project grew from: one conversation a row, a fixed
system prompt, and the input 关于`info_1`的`info_2`问题,Q?
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.records import Row

SEED_SYSTEM_PROMPT = (
    "You are a professional, highly experienced doctor professor. You always provide accurate, "
    "comprehensive, and detailed answers based on the patients' questions."
)

QuestionStyle = Literal["seed", "plain", "grounded"]
"""As the tutorial asks; as people type; as a grounded model is asked, with rows in the prompt (data.grounded)."""
_STYLES: tuple[QuestionStyle, ...] = ("seed", "plain", "grounded")
DatasetFormat = Literal["conversation", "json-array", "messages"]


@dataclass(frozen=True)
class Conversation:
    """One training example: what the model is told, what it is asked, what it must learn to say."""

    row_id: str
    style: QuestionStyle
    system: str
    input: str
    output: str


def seed_input(row: Row) -> str:
    """Return the seed's input text; every part verbatim, blank or not."""
    return f"关于`{row.info_1}`的`{row.info_2}`问题,{row.question}?"


def plain_input(row: Row) -> str:
    """Return the bare question, as people type it."""
    return row.question


def conversations(
    rows: Iterable[Row], styles: Sequence[QuestionStyle], system: str, *, verbatim: bool = False
) -> list[Conversation]:
    """Return one conversation a row and style, rows in order.

    A row without info_1 and info_2 has no seed form that says more than the question; it gets the plain one,
    unless `verbatim` asks for the seed form whatever the cells hold. `grounded` is left to data.grounded.
    """
    made = []
    for row in rows:
        has_seed_form = verbatim or bool(row.info_1 or row.info_2)
        inputs: dict[str, QuestionStyle] = {}
        for style in styles:
            if style == "grounded":
                continue
            as_seed = style == "seed" and has_seed_form
            inputs.setdefault(
                seed_input(row) if as_seed else plain_input(row), "seed" if as_seed else "plain"
            )
        made += [Conversation(row.row_id, as_, system, text, row.answer) for text, as_ in inputs.items()]
    return made


def conversation_line(conversation: Conversation) -> dict[str, Any]:
    """Return the JSON object of one line of train.jsonl."""
    turn = {"system": conversation.system, "input": conversation.input, "output": conversation.output}
    return {"conversation": [turn], "row_id": conversation.row_id, "style": conversation.style}


def conversation_of_line(line: dict[str, Any]) -> Conversation:
    """Return what `conversation_line` made a line of; raises KeyError, TypeError or ValueError on another shape."""
    (turn,) = line["conversation"]
    style: QuestionStyle = next((known for known in _STYLES if known == line.get("style")), "plain")
    return Conversation(str(line.get("row_id", "")), style, turn["system"], turn["input"], turn["output"])


def messages(conversation: Conversation) -> list[dict[str, str]]:
    """Return the conversation as OpenAI chat messages."""
    return [
        {"role": "system", "content": conversation.system},
        {"role": "user", "content": conversation.input},
        {"role": "assistant", "content": conversation.output},
    ]


def render(made: Sequence[Conversation], format_name: DatasetFormat) -> str:
    """Return the whole file's text in one of the formats.

    `json-array` is, byte for byte, what the seed's xlsx2jsonl.py writes (given seed-style conversations).
    """
    if format_name == "json-array":
        array = [{"conversation": conversation_line(item)["conversation"]} for item in made]
        return json.dumps(array, indent=4, ensure_ascii=False)
    if format_name == "messages":
        lines: list[Any] = [{"messages": messages(item), "row_id": item.row_id} for item in made]
    else:
        lines = [conversation_line(item) for item in made]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
