"""The step from a workbook to a dataset folder.

dataset/rows.jsonl            every row, what the index is built from
        train.jsonl           training conversations
        paraphrases.jsonl     held-out questions with the row that answers them
        unanswerable.jsonl    questions that no row answers
        validation.jsonl      with a split: conversations of the rows held back from training,
        test.jsonl            and split.json with what was held back and how alike the sides are
        train.json | train.messages.jsonl   the same conversations in another format, when asked for
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.artefacts import digest_of, folder_beside, sha256_file, write_json, write_text
from data.conversations import Conversation, DatasetFormat, conversations, render
from data.convert import convert_workbook
from data.errors import InputError
from data.grounded import drawn_rows, grounded_conversations
from data.held_out import own_questions, questions_from_file
from data.manifest import Manifest, is_current, read_manifest, write_manifest
from data.records import HeldOutQuestion, Row, write_records
from data.settings import PrepareSection, SplitSection, WorkbookSection
from data.split import Division, divide_rows
from data.workbook import Knowledge, WorkbookChoice, read_workbook

# Raised when the same workbook gives other files than it did.
_LAYOUT = "3"

QuestionSource = Literal["sheet", "file", "own", "test"]
_NEAREST_SHOWN = 10

EXTRA_FILES: dict[DatasetFormat, str] = {"json-array": "train.json", "messages": "train.messages.jsonl"}


@dataclass(frozen=True)
class Prepared:
    """The dataset's manifest; `fresh` False when nothing had to be done; notes from reading."""

    manifest: Manifest
    fresh: bool
    notes: tuple[str, ...] = ()


def prepare_dataset(
    folder: Path, workbook: WorkbookSection, prepare: PrepareSection, split: SplitSection | None = None
) -> Prepared:
    """Write the dataset of a workbook to `folder`, unless it is there already.

    Raises:
        InputError: the workbook or the questions file cannot be used, or it cannot be split as asked.
    """
    split = split or SplitSection()
    for path in filter(None, (workbook.file, workbook.questions)):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the workbook with --workbook FILE.xlsx")
    inputs = {
        "layout": _LAYOUT,
        "workbook": sha256_file(workbook.file),
        "questions": sha256_file(workbook.questions) if workbook.questions else "",
        "settings": digest_of(
            [
                workbook.file.name,
                workbook.model_dump(mode="json", exclude={"file", "questions"}),
                prepare.model_dump(mode="json"),
            ]
        ),
    }
    if split.is_asked_for:
        inputs["split"] = digest_of(split.model_dump(mode="json"))
    if is_current(folder, "dataset", inputs):
        manifest = read_manifest(folder)
        assert manifest is not None
        return Prepared(manifest, fresh=False)
    knowledge = read_workbook(_choice(workbook))
    division = _divide(knowledge, split)
    questions, source = _held_out(knowledge, workbook, prepare, division)
    train = _training_conversations(knowledge, division, questions, source, prepare)
    facts = {
        "workbook": workbook.file.name,
        "num_rows": len(knowledge.rows),
        "num_conversations": len(train),
        "num_paraphrases": len(questions),
        "num_unanswerable": len(knowledge.unanswerable),
        "question_source": source,
    }
    with folder_beside(folder) as beside:
        write_records(beside / "rows.jsonl", knowledge.rows)
        write_text(beside / "train.jsonl", render(train, "conversation"))
        if prepare.format == "json-array" and division is None:
            # The seed's file: every row, also one that stands twice, in the seed style only.
            extra = beside / EXTRA_FILES[prepare.format]
            convert_workbook(_choice(workbook), extra, "json-array", ("seed",), prepare.system_prompt)
        elif prepare.format in EXTRA_FILES:
            write_text(beside / EXTRA_FILES[prepare.format], _export(knowledge, division, prepare, train))
        write_records(beside / "paraphrases.jsonl", questions)
        write_records(beside / "unanswerable.jsonl", knowledge.unanswerable)
        if division is not None:
            facts["split"] = _write_held_back(beside, knowledge, division, split, prepare)
        manifest = write_manifest(beside, "dataset", inputs, facts)
    return Prepared(manifest, fresh=True, notes=knowledge.notes)


def _export(
    knowledge: Knowledge, division: Division | None, prepare: PrepareSection, train: list[Conversation]
) -> str:
    if prepare.format == "json-array":
        rows = knowledge.rows if division is None else division.rows(knowledge.rows, "train")
        return render(conversations(rows, ("seed",), prepare.system_prompt, verbatim=True), "json-array")
    return render(train, prepare.format)


def _choice(workbook: WorkbookSection) -> WorkbookChoice:
    return WorkbookChoice(
        path=workbook.file,
        sheet=workbook.sheet,
        mapping=workbook.map,
        max_rows=workbook.rows,
        skip_empty=workbook.skip_empty,
        paraphrases_sheet=workbook.paraphrases_sheet,
        unanswerable_sheet=workbook.unanswerable_sheet,
    )


def _divide(knowledge: Knowledge, split: SplitSection) -> Division | None:
    if not split.is_asked_for:
        return None
    return divide_rows(knowledge.rows, **split.model_dump())


def _write_held_back(
    folder: Path, knowledge: Knowledge, division: Division, split: SplitSection, prepare: PrepareSection
) -> dict[str, Any]:
    """Write the files of a split; returns what the manifest says of it."""
    for side in ("validation", "test"):
        held_back = _conversations(division.rows(knowledge.rows, side), prepare)
        write_text(folder / f"{side}.jsonl", render(held_back, "conversation"))
    facts: dict[str, Any] = {
        "num_train": division.sides.count("train"),
        "num_validation": division.sides.count("validation"),
        "num_test": division.sides.count("test"),
        "num_left_out": division.sides.count("left out"),
        "max_similarity": round(division.max_similarity, 4),
        "num_at_or_above_threshold": division.num_at_or_above(split.threshold),
    }
    nearest = [
        {
            "similarity": round(pair.similarity, 4),
            "held_out": {"row_id": pair.held_out.row_id, "question": pair.held_out.question},
            "other": {"row_id": pair.other.row_id, "question": pair.other.question},
        }
        for pair in division.nearest[:_NEAREST_SHOWN]
    ]
    sides = {row.row_id: side for row, side in zip(knowledge.rows, division.sides, strict=True)}
    settings = split.model_dump(mode="json")
    write_json(folder / "split.json", {"settings": settings, **facts, "nearest": nearest, "sides": sides})
    return facts


def _held_out(
    knowledge: Knowledge, workbook: WorkbookSection, prepare: PrepareSection, division: Division | None
) -> tuple[list[HeldOutQuestion], QuestionSource]:
    if workbook.questions is not None:
        return questions_from_file(workbook.questions, knowledge.rows), "file"
    if knowledge.paraphrases:
        return list(knowledge.paraphrases), "sheet"
    if division is not None and "test" in division.sides:
        tested = division.rows(knowledge.rows, "test")
        return own_questions(tested, prepare.own_questions, prepare.seed), "test"
    return own_questions(knowledge.rows, prepare.own_questions, prepare.seed), "own"


def _training_conversations(
    knowledge: Knowledge,
    division: Division | None,
    questions: list[HeldOutQuestion],
    source: QuestionSource,
    prepare: PrepareSection,
) -> list[Conversation]:
    rows = knowledge.rows if division is None else division.rows(knowledge.rows, "train")
    if source != "own":
        return _conversations(rows, prepare)
    asked = {question.row_id for question in questions}
    made = _conversations([row for row in rows if row.row_id not in asked], prepare)
    kept = conversations(
        [row for row in rows if row.row_id in asked], ("seed",), prepare.system_prompt, verbatim=True
    )
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    return sorted([*made, *kept], key=lambda one: place_of[one.row_id])


def _conversations(rows: Sequence[Row], prepare: PrepareSection) -> list[Conversation]:
    """Return the rows' conversations in every style, rows in order; what is shown in a prompt is of `rows`, too."""
    made = conversations(rows, prepare.styles, prepare.system_prompt)
    if "grounded" in prepare.styles:
        drawn = drawn_rows(rows, prepare.grounded_share, prepare.seed)
        made += grounded_conversations(drawn, rows, prepare.system_prompt, prepare.seed)
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    return sorted(made, key=lambda one: place_of[one.row_id])
