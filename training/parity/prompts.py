"""The questions of the parity check, and what each side's chat template makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.records import HeldOutQuestion, read_records
from training.examples import read_conversations
from training.parity.findings import Fault

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Prompt:
    """One question as chat messages, and as the token ids that the base's template makes of them."""

    messages: tuple[Mapping[str, str], ...]
    ids: tuple[int, ...]

    @property
    def question(self) -> str:
        """The last message's text."""
        return self.messages[-1]["content"]


def held_out_messages(dataset: Path, count: int) -> list[tuple[Mapping[str, str], ...]]:
    """Return `count` held-out questions, spread over the file, under the system prompt of training.

    A dataset without held-out questions gives those of its training rows.

    Raises:
        InputError: no dataset.
    """
    trained = read_conversations(dataset / "train.jsonl")
    path = dataset / "paraphrases.jsonl"
    questions = [item.question for item in read_records(path, HeldOutQuestion)] if path.is_file() else []
    questions = questions or list(dict.fromkeys(item.input for item in trained if item.style != "grounded"))
    step = max(1, len(questions) // count)
    system = trained[0].system
    head = ({"role": "system", "content": system},) if system else ()
    return [(*head, {"role": "user", "content": text}) for text in questions[::step][:count]]


def load_tokenizer(folder: Path) -> Any:
    """Return the folder's tokenizer; it runs none of the folder's code.

    Raises:
        InputError: it cannot be read, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: its tokenizer cannot be read ({' '.join(str(error).split())[:200]})"
        ) from error
    if not tokenizer.chat_template:
        raise InputError(f"{folder}: its tokenizer has no chat template; copy the base's there")
    return tokenizer


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """Return the text of a prompt as training renders it, up to where the answer begins."""
    text: str = tokenizer.apply_chat_template(
        [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
    )
    return text


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the token ids of a rendered prompt; the template has put in what special tokens there are."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def prompt_faults(
    base: Any, merged: Any, messages: Sequence[Sequence[Mapping[str, str]]], room_tokens: int, max_tokens: int
) -> list[Fault]:
    """Compare what two tokenizers make of the same messages, and whether the model takes it whole.

    Args:
        room_tokens: the longest sequence that the model takes.
        max_tokens: tokens of an answer.
    """
    for turns in messages:
        one, two = render(base, turns), render(merged, turns)
        if one != two:
            return [Fault("template", f"the merged model's chat template {_first_difference(one, two)}")]
        if encode(base, one) != encode(merged, two):
            return [
                Fault(
                    "tokenizer",
                    f"the merged model's tokenizer makes other ids of {_short(turns[-1]['content'])}",
                )
            ]
        if len(encode(base, one)) + max_tokens > room_tokens:
            return [
                Fault(
                    "truncation",
                    f"the prompt of {_short(turns[-1]['content'])} has {len(encode(base, one))} tokens, the model "
                    f"takes {room_tokens} with the answer's {max_tokens}",
                )
            ]
    if base.chat_template != merged.chat_template:
        return [
            Fault(
                "template",
                "the merged model's chat template is not the base's, though these prompts look the same",
            )
        ]
    return []


def count_faults(prompts: Sequence[Prompt], counts: Sequence[int]) -> list[Fault]:
    """Judge the served side by its prompt_tokens: a template changes every prompt, truncation the long ones."""
    expected = [len(prompt.ids) for prompt in prompts]
    wrong = [(want, got) for want, got in zip(expected, counts, strict=True) if want != got]
    if not wrong:
        return []
    want, got = wrong[0]
    cap = max(counts)
    cut = all(count == min(length, cap) for length, count in zip(expected, counts, strict=True))
    if cut and len(set(expected)) > 1:
        return [
            Fault(
                "truncation",
                f"the API takes {cap} tokens of a prompt: {len(wrong)} of {len(counts)} prompts are cut (one from "
                f"{want} to {got}); raise its context length",
            )
        ]
    return [
        Fault(
            "template",
            f"the API counts {got} tokens where the training template gives {want} ({len(wrong)} of {len(counts)} "
            "prompts differ): it renders another chat template or system prompt",
        )
    ]


def _first_difference(one: str, two: str) -> str:
    place = next(
        (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )
    return f"writes {two[place : place + 30]!r} where the base's writes {one[place : place + 30]!r}"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
