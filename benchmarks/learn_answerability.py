"""Learns what the signs of an answer weigh (rag.signs), once, from a workbook's rows; rag/answerability.json keeps it.

    python -m benchmarks.learn_answerability WORKBOOK.xlsx --first ROW --last ROW [--questions QUESTIONS.jsonl]

A row's own question is a copy of what it should find, and who learns from copies learns to know copies. So questions
are hidden: the index holds the rows' answers alone, and a question's row has to be found by its answer, in other
words than those of the question, as a person's own wording has to find it. Answerable are the questions with all
rows there; unanswerable are the same with their row left out and with their topic left out. With --questions, those of
other people to the same rows are asked as well, of the rows as they are. Each kind weighs the same in a logistic
regression with a ridge penalty. Questions outside the chosen rows are not looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from data.errors import InputError
from data.held_out import questions_from_file
from data.records import Row
from data.workbook import WorkbookChoice, read_workbook
from rag.answerability import WEIGHTS
from rag.calibration import usual_terms_of
from rag.config import IndexSection
from rag.index import cosine_spread, row_title
from rag.leaving_out import AskedOfRows, LeavingOut, Topics
from rag.lexical import SPREADS_PER_BM25, open_lexical, write_lexical
from rag.signs import Signs

ROOT = Path(__file__).parents[1]
_RIDGE = 10.0
_STEPS = 50

Vectors = NDArray[np.float32]
Kind = Literal["query", "passage"]


def rows_without_questions(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with nothing but their answers (and info_1 beside them, for the agreement of neighbours)."""
    return [dataclasses.replace(row, question="", info_2="") for row in rows]


def index_in_memory(rows: Sequence[Row], vectors: Vectors, usual_terms: float) -> LeavingOut:
    """Return the rows to be asked, with the same lexical index as `rag index` makes."""
    spread = cosine_spread(vectors)
    with tempfile.TemporaryDirectory() as folder:
        write_lexical(Path(folder), rows, IndexSection().question_weight)
        lexical = open_lexical(Path(folder), [row.row_id for row in rows], SPREADS_PER_BM25 * spread)
    return LeavingOut(rows, vectors, lexical, spread, usual_terms)


def signs_of(
    asked: Sequence[AskedOfRows], places: Sequence[int], topics: Topics
) -> list[NDArray[np.float64]]:
    """Return the signs, (number of questions, number of signs), with all rows, without the row, without the topic."""
    kinds = (
        [each.signs() for each in asked],
        [each.signs([place]) for each, place in zip(asked, places, strict=True)],
        [each.signs(topics.of(place)) for each, place in zip(asked, places, strict=True)],
    )
    return [np.array([astuple(signs) for signs in kind if signs is not None]) for kind in kinds]


def fit(
    groups: Sequence[tuple[NDArray[np.float64], bool]],
) -> tuple[NDArray[np.float64], float]:
    """Return weights and offset of a logistic regression; a group is (its signs, whether it is answerable).

    Groups weigh the same within their side, the two sides the same.
    """
    signs = np.concatenate([group for group, _ in groups])
    answerable = np.concatenate([np.full(len(group), is_so, float) for group, is_so in groups])
    num_of_side = {side: sum(is_so is side for _, is_so in groups) for side in (True, False)}
    weight = np.concatenate([np.full(len(g), 1 / len(g) / num_of_side[is_so]) for g, is_so in groups])
    weight *= len(signs) / weight.sum()
    mean, scale = signs.mean(axis=0), signs.std(axis=0) + 1e-9
    table = np.column_stack([(signs - mean) / scale, np.ones(len(signs))])
    ridge = np.diag([_RIDGE] * signs.shape[1] + [0.0])
    found = np.zeros(table.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-table @ found))
        slope = table.T @ (weight * (answerable - chance)) - ridge @ found
        curve = (table * (weight * chance * (1 - chance))[:, None]).T @ table + ridge
        found += np.linalg.solve(curve, slope)
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ mean)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workbook", type=Path)
    parser.add_argument("--first", type=int, required=True, help="the first row, counted from 1")
    parser.add_argument("--last", type=int, required=True, help="the last row")
    parser.add_argument("--questions", type=Path, help="other people's questions to the rows")
    parser.add_argument("--every", type=int, default=1, help="ask one in so many of those questions")
    parser.add_argument(
        "--vectors", type=Path, help="an .npz to keep the texts' vectors in, and to read them from"
    )
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(argv)
    all_rows = read_workbook(WorkbookChoice(options.workbook, skip_empty=True)).rows
    rows = list(all_rows[options.first - 1 : options.last])
    asked = questions_from_file(options.questions, all_rows) if options.questions else []
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    asked = [question for question in asked if question.row_id in place_of][:: options.every]

    vectors = embedded(
        options.model,
        {
            "titles": ("passage", [row_title(row) for row in rows]),
            "answers": ("passage", [row.answer for row in rows]),
            "own": ("query", [row.question for row in rows]),
            "others": ("query", [question.question for question in asked]),
        },
        options.vectors,
    )
    titles, answers, own = vectors["titles"], vectors["answers"], vectors["own"]
    groups = learn_from(rows, titles, answers, own)
    if asked:
        texts = [question.question for question in asked]
        groups += learn_from_others(
            rows, titles, answers, texts, vectors["others"], [place_of[question.row_id] for question in asked]
        )
    weights, offset = fit(groups)
    command = f"python -m benchmarks.learn_answerability {options.workbook.name}"
    command += f" --first {options.first} --last {options.last}"
    if options.questions:
        command += f" --questions {options.questions.name} --every {options.every}"
    result: dict[str, Any] = {
        "what": "what the signs of an answer weigh (rag.signs, rag.answerability)",
        "command": command,
        **describe_machine(("torch", "sentence-transformers", "numpy")),
        "num_rows": len(rows),
        "num_questions": len(asked),
        "weights": {
            field.name: round(float(weight), 4) for field, weight in zip(fields(Signs), weights, strict=True)
        },
        "offset": round(offset, 4),
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, ensure_ascii=False, indent=2))
    return 0


def embedded(
    model: Path, texts: Mapping[str, tuple[Kind, Sequence[str]]], kept: Path | None
) -> dict[str, Vectors]:
    """Return a vector a text, by name; read from the file `kept` if it is there, else written to it."""
    if kept and kept.is_file():
        with np.load(kept) as saved:
            vectors = {name: np.asarray(saved[name], np.float32) for name in texts}
        if any(len(vectors[name]) != len(some) for name, (_, some) in texts.items()):
            raise InputError(f"{kept}: the vectors of other texts; remove it")
        return vectors
    import torch

    from rag.embedding import load_embeddings

    embeddings = load_embeddings(model, num_threads=torch.get_num_threads())
    vectors = {name: embeddings.embed(list(some), kind) for name, (kind, some) in texts.items()}
    embeddings.close()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **vectors)  # type: ignore[arg-type]
    return vectors


def learn_from(
    rows: Sequence[Row], titles: Vectors, answers: Vectors, own: Vectors
) -> list[tuple[NDArray[np.float64], bool]]:
    """Return the signs of the rows' own questions to their answers; `own` are the questions' vectors."""
    bare = rows_without_questions(rows)
    index = index_in_memory(bare, answers, usual_terms_of(rows))
    asked = [index.ask(row.question, vector) for row, vector in zip(rows, own, strict=True)]
    there, no_row, no_topic = signs_of(asked, range(len(rows)), Topics(rows, row_vectors(titles, answers)))
    return [(there, True), (no_row, False), (no_topic, False)]


def learn_from_others(
    rows: Sequence[Row],
    titles: Vectors,
    answers: Vectors,
    questions: Sequence[str],
    vectors: Vectors,
    places: Sequence[int],
) -> list[tuple[NDArray[np.float64], bool]]:
    """Return the signs of other people's questions to the rows as they are."""
    both = row_vectors(titles, answers)
    index = index_in_memory(rows, both, usual_terms_of(rows))
    asked = [index.ask(text, vector) for text, vector in zip(questions, vectors, strict=True)]
    there, no_row, no_topic = signs_of(asked, places, Topics(rows, both))
    return [(there, True), (no_row, False), (no_topic, False)]


def row_vectors(titles: Vectors, answers: Vectors) -> Vectors:
    mean = titles + answers
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    sys.exit(main())
