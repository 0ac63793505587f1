"""Held-out conversations, and how close greedy answers to them come: what evaluation and the sweep judge by.

Knows no model: the caller brings what answers a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rapidfuzz.distance import LCSseq

from data.conversations import Conversation, QuestionStyle, messages
from data.records import HeldOutQuestion, read_records
from training.examples import of_styles, read_conversations
from training.parity.prompts import Prompt, encode, render

Source = Literal["validation", "paraphrases"]


@dataclass(frozen=True)
class ScoredAnswer:
    """A greedy answer and its ROUGE-L, 0 to 100."""

    question: str
    answer: str
    rouge_l: float


def held_out_file(dataset: Path, source: Source) -> Path | None:
    """Return the dataset's file of that name, or None where there is none or it is empty."""
    path = dataset / f"{source}.jsonl"
    return path if path.is_file() and path.stat().st_size else None


def held_out_conversations(
    dataset: Path, source: Source, count: int, styles: Sequence[QuestionStyle] = ("plain",)
) -> list[Conversation]:
    """Return at most `count` held-out conversations, spread over the file; none where there is no such file.

    Paraphrases are asked under the system prompt of training.

    Raises:
        InputError: a line that cannot be read; no training conversations beside paraphrases.
    """
    path = held_out_file(dataset, source)
    if path is None:
        return []
    if source == "validation":
        found = of_styles(read_conversations(path), styles)
    else:
        system = read_conversations(dataset / "train.jsonl")[0].system
        found = [
            Conversation(item.row_id, "plain", system, item.question, item.answer)
            for item in read_records(path, HeldOutQuestion)
        ]
    return spread(found, count)


def spread(found: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the items, evenly spread over them."""
    return (
        [found[number * len(found) // count] for number in range(count)] if count < len(found) else [*found]
    )


def score_answers(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    answer: Callable[[Sequence[Prompt]], Sequence[Sequence[int]]],
) -> Iterator[ScoredAnswer]:
    """Have the questions answered, all in one batch, and compare with the rows' answers.

    Args:
        answer: from prompts to the ids of what is said after each.
    """
    turns = [tuple(messages(conversation)[:-1]) for conversation in conversations]
    prompts = [Prompt(turn, encode(tokenizer, render(tokenizer, turn))) for turn in turns]
    said = answer(prompts) if prompts else ()
    for conversation, ids in zip(conversations, said, strict=True):
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        yield ScoredAnswer(conversation.input, text, rouge_l(text, conversation.output))


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of characters without white space, 0 to 100."""
    one, two = ("".join(text.split()) for text in (answer, reference))
    if not one or not two:
        return 0.0
    return 200.0 * LCSseq.similarity(one, two) / (len(one) + len(two))
