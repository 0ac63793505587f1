"""Conversations to token ids and the mask of what is learned.

The prompt is the chat template's own rendering, the one that every engine makes of the same messages; only
the answer and its end-of-turn token carry loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.conversations import Conversation, QuestionStyle, conversation_of_line, messages
from data.errors import InputError


@dataclass(frozen=True)
class Example:
    """One conversation as tokens: `ids` (T,), of which the last `num_labels` are learned."""

    ids: tuple[int, ...]
    num_labels: int
    was_cut: bool


def read_conversations(path: Path) -> list[Conversation]:
    """Read train.jsonl.

    Raises:
        InputError: the file is missing or a line is not a conversation; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: not there; run `groundtune data prepare` first") from None
    made = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            made.append(conversation_of_line(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a training conversation ({error!r})") from error
    if not made:
        raise InputError(f"{path}: holds no conversation; run `groundtune data prepare` again")
    return made


def of_styles(conversations: list[Conversation], styles: Sequence[QuestionStyle]) -> list[Conversation]:
    """Return the conversations in one of the wordings; a row that has none of them keeps the one it has."""
    covered = {item.row_id for item in conversations if item.style in styles}
    return [item for item in conversations if item.style in styles or item.row_id not in covered]


def require_styles(
    conversations: Sequence[Conversation], styles: Sequence[QuestionStyle], path: Path
) -> None:
    """Refuse to train without what was asked for: rows in the prompt cannot be replaced by another wording.

    Raises:
        InputError: `styles` has `grounded`, and no conversation of `path` is.
    """
    if "grounded" in styles and not any(item.style == "grounded" for item in conversations):
        raise InputError(
            f"{path}: train.styles has grounded, and no conversation here is; run `groundtune data prepare "
            "--set 'prepare.styles=[plain, grounded]'`"
        )


def encode_all(
    conversations: Sequence[Conversation], tokenizer: Any, max_tokens: int
) -> tuple[list[Example], int]:
    """Return the examples, and how many grounded conversations were left out because they do not fit whole.

    Half of a row's answer after all of it in the prompt would teach to stop in the middle.

    Raises:
        InputError: as `encode`, of the other conversations.
    """
    examples, num_left_out = [], 0
    for conversation in conversations:
        try:
            example = encode(conversation, tokenizer, max_tokens)
        except PromptTooLongError:
            if conversation.style != "grounded":
                raise
            num_left_out += 1
            continue
        if conversation.style == "grounded" and example.was_cut:
            num_left_out += 1
        else:
            examples.append(example)
    return examples, num_left_out


class PromptTooLongError(InputError):
    """The prompt alone fills the tokens that an example may have."""


def encode(conversation: Conversation, tokenizer: Any, max_tokens: int) -> Example:
    """Tokenise one conversation with the model's chat template.

    Raises:
        PromptTooLongError: the prompt alone fills `max_tokens`.
        InputError: the template does not put the answer after the prompt.
    """
    turns = messages(conversation)
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    answer = whole[len(prompt) :]
    if not whole.startswith(prompt) or not answer.startswith(conversation.output):
        raise InputError(
            f"row {conversation.row_id}: the model's chat template rewrites the answer or the prompt before it; "
            "use a template whose text with the answer begins with the text before it"
        )
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    # The template may write a line break after the end-of-turn token; engines stop at the token.
    answer_ids = tokenizer.encode(answer.rstrip("\n"), add_special_tokens=False)
    if len(prompt_ids) >= max_tokens:
        raise PromptTooLongError(
            f"row {conversation.row_id}: the question alone has {len(prompt_ids)} tokens; "
            f"raise train.max_tokens (now {max_tokens}) or shorten the cell"
        )
    room = max_tokens - len(prompt_ids)
    kept = answer_ids[:room]
    return Example((*prompt_ids, *kept), len(kept), was_cut=len(kept) < len(answer_ids))
