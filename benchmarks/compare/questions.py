"""The questions of a comparison: held-out ones with the answers that are right, and some that have none."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from benchmarks.measures.scores import Wanted
from data.errors import InputError
from data.learned import trained_rows
from data.manifest import read_manifest
from data.records import HeldOutQuestion, Row, read_records

_EXPECTED = '{"question": ...} with "row_id": ..., "row": ..., "answer": ... or "unanswerable": true'

Drawn = TypeVar("Drawn")
RowChoice = Literal["all", "unseen", "trained"]
ROW_CHOICES: tuple[RowChoice, ...] = get_args(RowChoice)


@dataclass(frozen=True)
class Question:
    """A question; `category` is "" where it has none, `source` where a person finds it."""

    text: str
    wanted: Wanted
    category: str
    source: str


def run_questions(dataset: Path) -> tuple[list[Question], list[Question]]:
    """Return a run's held-out questions and its unanswerable ones.

    Raises:
        InputError: the dataset is not there.
    """
    rows = {row.row_id: row for row in read_records(dataset / "rows.jsonl", Row)}
    held_out = read_records(dataset / "paraphrases.jsonl", HeldOutQuestion)
    unanswerable = read_records(dataset / "unanswerable.jsonl", HeldOutQuestion)
    answerable = [
        Question(
            item.question, Wanted(item.answer, (item.row_id,)), _category(rows, item.row_id), item.source
        )
        for item in held_out
    ]
    return answerable, [Question(item.question, Wanted("", ()), "", item.source) for item in unanswerable]


def questions_of_file(path: Path, rows: Sequence[Row]) -> tuple[list[Question], list[Question]]:
    """Return the answerable and the unanswerable questions of a JSON Lines file.

    A line has `question` and one of `row_id` (or `row_ids`, or `row`, the sheet's row number), `answer`, and
    `unanswerable`; `category` if wanted, where the row's info_1 is not.

    Raises:
        InputError: the file cannot be read, or a line is none of these; names the line.
    """
    by_id = {row.row_id: row for row in rows}
    by_number = {row.source.rpartition("!")[2].lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"): row for row in rows}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path.name}:{number}"
            try:
                found.append(_question(json.loads(line), where, by_id, by_number))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{path}:{number}: {error}; expected {_EXPECTED}") from error
    return (
        [question for question in found if question.wanted.is_answerable],
        [question for question in found if not question.wanted.is_answerable],
    )


def where_from(dataset: Path) -> str:
    """Return a sentence on a run's held-out questions where it changes what the figures mean; "" where not."""
    manifest = read_manifest(dataset)
    source = manifest.facts.get("question_source") if manifest is not None else None
    if source not in ("own", "test"):
        return ""
    told = "The questions are the rows' own wording, by which retrieval finds a row more easily than by people's."
    if source == "own":
        told += " Training saw these rows, each with another wording of its question."
    return told


def about_rows(questions: Sequence[Question], dataset: Path, rows: RowChoice) -> list[Question]:
    """Return the questions about rows that training has not seen, or about those that it has; "all": every one.

    A question without a row of this run (only an answer was given) is about an unseen one.

    Raises:
        InputError: the dataset is not there, or no question is left.
    """
    if rows == "all":
        return list(questions)
    trained = {row.row_id for row in trained_rows(dataset)}
    left = [
        question
        for question in questions
        if bool(trained.intersection(question.wanted.right_rows)) == (rows == "trained")
    ]
    if not left:
        raise InputError(
            f"--rows {rows}: none of {len(questions)} questions is about such a row ({len(trained)} rows were "
            "trained on); prepare the run with --test SHARE to keep rows from training, or ask --rows all"
        )
    return left


def choose(questions: Sequence[Drawn], limit: int, seed: int) -> list[Drawn]:
    """Return `limit` of the questions, drawn with `seed`, in their order; 0 or too many: all."""
    if limit == 0 or limit >= len(questions):
        return list(questions)
    places = random.Random(seed).sample(range(len(questions)), limit)
    return [questions[place] for place in sorted(places)]


def _question(
    raw: Mapping[str, Any], where: str, by_id: Mapping[str, Row], by_number: Mapping[str, Row]
) -> Question:
    text = str(raw["question"]).strip()
    if not text:
        raise ValueError("an empty question")
    if raw.get("unanswerable"):
        return Question(text, Wanted("", ()), str(raw.get("category", "")), where)
    ids = [str(row_id) for row_id in raw.get("row_ids") or ()]
    if "row_id" in raw:
        ids = [str(raw["row_id"])]
    elif "row" in raw:
        row = by_number.get(str(raw["row"]))
        if row is None:
            raise ValueError(f"row {raw['row']} holds no question of this run")
        ids = [row.row_id]
    answer = str(raw["answer"]).strip() if "answer" in raw else _answer(by_id, ids)
    if not answer:
        raise ValueError("an empty answer")
    category = str(raw.get("category") or (_category(by_id, ids[0]) if ids else ""))
    return Question(text, Wanted(answer, tuple(ids)), category, where)


def _answer(by_id: Mapping[str, Row], ids: Sequence[str]) -> str:
    if not ids:
        raise ValueError("neither a row nor an answer")
    if ids[0] not in by_id:
        raise ValueError(f"no row {ids[0]!r} in this run")
    return by_id[ids[0]].answer


def _category(rows: Mapping[str, Row], row_id: str) -> str:
    row = rows.get(row_id)
    return row.info_1 if row else ""
