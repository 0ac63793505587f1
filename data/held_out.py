"""Evaluation questions for a workbook that brings no `paraphrases` sheet."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from data.records import HeldOutQuestion, Row


def questions_from_file(path: Path, rows: Sequence[Row]) -> list[HeldOutQuestion]:
    """Read JSON Lines of {"row" or "row_id", "question"}; lines whose row was not taken are left out.

    Raises:
        InputError: no such file, a line of another shape, or no line about any of `rows`.
    """
    by_id = {row.row_id: row for row in rows}
    by_number = {int(row.source.rpartition("!")[2].lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")): row for row in rows}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            question = str(raw["question"]).strip()
            row = by_id.get(raw["row_id"]) if "row_id" in raw else by_number.get(int(raw["row"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{path}:{number}: expected {{"row": 17, "question": "..."}} ({error})'
            ) from error
        if row is not None and question:
            questions.append(HeldOutQuestion(question, row.row_id, row.answer, f"{path.name}:{number}"))
    if not questions:
        raise InputError(
            f"{path}: no question about any of the {len(rows)} rows taken; check its row numbers"
        )
    return questions


def own_questions(rows: Sequence[Row], count: int, seed: int) -> list[HeldOutQuestion]:
    """Choose `count` rows and return their own questions, in sheet order; the same for the same seed."""
    chosen = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))
    picked = [rows[place] for place in sorted(chosen)]
    return [HeldOutQuestion(row.question.strip(), row.row_id, row.answer, row.source) for row in picked]
