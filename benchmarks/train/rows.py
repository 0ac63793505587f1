"""The rows of `bench train`: some of a workbook's to train on, others and other wordings to judge by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.artefacts import write_text
from data.conversations import Conversation, render
from data.errors import InputError
from data.manifest import write_manifest
from data.records import HeldOutQuestion, read_records
from data.workspace import Run
from training.examples import read_conversations

PARAPHRASES, UNSEEN = "paraphrases", "unseen rows"


@dataclass(frozen=True)
class BenchRows:
    """What every arm is given.

    Attributes:
        trained: Conversations in the plain wording, one a row.
        held_out: By name: `paraphrases` asks for trained rows in other words, `unseen rows` for other rows.
    """

    trained: list[Conversation]
    held_out: dict[str, list[Conversation]]


def choose_rows(dataset: Path, num_rows: int, num_held_out: int, seed: int) -> BenchRows:
    """Draw the rows from a prepared dataset; the same arguments draw the same.

    Raises:
        InputError: the dataset has fewer rows than are asked for.
    """
    plain = [item for item in read_conversations(dataset / "train.jsonl") if item.style == "plain"]
    if len(plain) < num_rows + num_held_out:
        raise InputError(
            f"{dataset}: {len(plain)} rows, and {num_rows} to train on with {num_held_out} unseen ones are asked "
            "for; lower --rows"
        )
    random.Random(seed).shuffle(plain)
    trained, unseen = plain[:num_rows], plain[num_rows : num_rows + num_held_out]
    asked = {
        item.row_id: item.question for item in read_records(dataset / "paraphrases.jsonl", HeldOutQuestion)
    }
    others = [replace(item, input=asked[item.row_id]) for item in trained if item.row_id in asked]
    return BenchRows(trained, {PARAPHRASES: others[:num_held_out], UNSEEN: unseen})


def write_dataset(run: Run, chosen: Sequence[Conversation]) -> None:
    """Make these conversations the dataset of a run."""
    write_text(run.dataset / "train.jsonl", render(list(chosen), "conversation"))
    write_manifest(run.dataset, "dataset", {}, {})
