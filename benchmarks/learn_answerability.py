"""Learns what the signs of an answer weigh (rag.signs), once, from rows alone; rag/answerability.json keeps it.

    python -m benchmarks.learn_answerability WORKBOOK.xlsx --first ROW --last ROW --tune WORKBOOK.xlsx [--tune ...]

A row's own question is a copy of what it should find, and who learns from copies learns to know copies. So questions
are hidden: the index holds the rows' answers alone, and a question's row has to be found by its answer, in other
words than those of the question, as a person's own wording has to find it. Up to 300 of the rows' questions are asked,
those that the calibration would ask: answerable are they with all rows there, unanswerable with their topic left out.
A logistic regression with a ridge penalty weighs eight signs. The ninth, `evidence`, is made of two of them and is the
score that was in use before; how much of it is added is chosen on the workbooks of --tune, by how well their own
questions with all answers there are told from the same without their row and without their topic. Nothing else is
asked: no paraphrase, no question of a person, no sheet of unanswerable ones.
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
from data.options import parse_mapping
from data.records import Row
from data.workbook import WorkbookChoice, read_workbook
from rag.answerability import WEIGHTS, Answerability
from rag.calibration import questions_to_ask, usual_terms_of
from rag.config import IndexSection
from rag.leaving_out import LeavingOut, Topics
from rag.lexical import SPREADS_PER_BM25, open_lexical, write_lexical
from rag.refusal_report import auroc
from rag.row_texts import row_title
from rag.row_vectors import cosine_spread
from rag.signs import Signs

ROOT = Path(__file__).parents[1]
_RIDGE = 10.0
_STEPS = 50
_SHARES_OF_EVIDENCE = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

Vectors = NDArray[np.float32]
Table = NDArray[np.float64]
Kind = Literal["query", "passage"]


def rows_without_questions(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with nothing but their answers (and info_1 beside them, for the agreement of neighbours)."""
    return [dataclasses.replace(row, question="", info_2="") for row in rows]


def index_in_memory(
    rows: Sequence[Row], vectors: Vectors, usual_terms: float, answerability: Answerability | None = None
) -> LeavingOut:
    """Return the rows to be asked, with the same lexical index as `rag index` makes; None: the shipped weights."""
    spread = cosine_spread(vectors)
    with tempfile.TemporaryDirectory() as folder:
        write_lexical(Path(folder), rows, IndexSection().question_weight)
        lexical = open_lexical(Path(folder), [row.row_id for row in rows], SPREADS_PER_BM25 * spread)
    return LeavingOut(rows, vectors, lexical, spread, usual_terms, answerability)


def row_vectors(titles: Vectors, answers: Vectors) -> Vectors:
    """Return the rows' vectors as `rag index` makes them of its two default views."""
    mean = titles + answers
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def hidden_signs(rows: Sequence[Row], vectors: Mapping[str, Vectors]) -> list[Table]:
    """Return the signs of the rows' questions to their answers: with all there, without the row, without the topic.

    Each (number of questions, number of signs); `vectors` are "titles", "answers" and "own" (the questions').
    """
    # Signs only are read: there need be no weights yet.
    unweighted = Answerability({})
    index = index_in_memory(
        rows_without_questions(rows), vectors["answers"], usual_terms_of(rows), unweighted
    )
    topics = Topics(rows, row_vectors(vectors["titles"], vectors["answers"]))
    places = questions_to_ask(rows)
    asked = [index.ask(rows[place].question, vectors["own"][place]) for place in places]
    kinds = (
        [each.signs() for each in asked],
        [each.signs([place]) for each, place in zip(asked, places, strict=True)],
        [each.signs(topics.of(place)) for each, place in zip(asked, places, strict=True)],
    )
    return [np.array([astuple(signs) for signs in kind if signs is not None]) for kind in kinds]


def fit(answerable: Table, unanswerable: Table) -> tuple[Table, float]:
    """Return weights and offset of a logistic regression with a ridge penalty; both sides weigh the same."""
    signs = np.concatenate([answerable, unanswerable])
    is_answerable = np.repeat([1.0, 0.0], [len(answerable), len(unanswerable)])
    weight = np.repeat([1 / len(answerable), 1 / len(unanswerable)], [len(answerable), len(unanswerable)])
    weight *= len(signs) / weight.sum()
    mean, scale = signs.mean(axis=0), signs.std(axis=0) + 1e-9
    table = np.column_stack([(signs - mean) / scale, np.ones(len(signs))])
    ridge = np.diag([_RIDGE] * signs.shape[1] + [0.0])
    found = np.zeros(table.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-table @ found))
        slope = table.T @ (weight * (is_answerable - chance)) - ridge @ found
        curve = (table * (weight * chance * (1 - chance))[:, None]).T @ table + ridge
        found += np.linalg.solve(curve, slope)
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ mean)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workbook", type=Path)
    parser.add_argument("--first", type=int, required=True, help="the first row, counted from 1")
    parser.add_argument("--last", type=int, required=True, help="the last row")
    parser.add_argument("--tune", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--map", action="append", default=[], help="COLUMN=HEADER, for workbooks of --tune")
    parser.add_argument("--vectors", type=Path, help="a folder to keep the texts' vectors in")
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(argv)

    names = [field.name for field in fields(Signs)]
    learned = [place for place, name in enumerate(names) if name != "evidence"]
    first = read_workbook(WorkbookChoice(options.workbook, skip_empty=True)).rows
    rows = list(first[options.first - 1 : options.last])
    answerable, _, no_topic = hidden_signs(rows, _vectors(rows, options.workbook, options))
    some, offset = fit(answerable[:, learned], no_topic[:, learned])
    weights = np.zeros(len(names))
    weights[learned] = some
    others = []
    for path in options.tune:
        mapping = _mapping_for(path, options.map)
        tuned = list(read_workbook(WorkbookChoice(path, mapping=mapping, skip_empty=True)).rows)
        others.append(hidden_signs(tuned, _vectors(tuned, path, options)))
    tried = {}
    for share in _SHARES_OF_EVIDENCE if others else (0.0,):
        weights[names.index("evidence")] = share
        tried[share] = _mean_auroc(others, weights) if others else 0.0
    weights[names.index("evidence")] = max(tried, key=lambda share: tried[share])
    command = f"python -m benchmarks.learn_answerability {options.workbook.name}"
    command += f" --first {options.first} --last {options.last}"
    command += "".join(f" --tune {path.name}" for path in options.tune)
    command += "".join(f' --map "{pair}"' for pair in options.map)
    result: dict[str, Any] = {
        "what": "what the signs of an answer weigh (rag.signs, rag.answerability)",
        "command": command,
        **describe_machine(("torch", "numpy")),
        "num_rows": len(rows),
        "num_questions": len(answerable),
        "auroc_by_weight_of_evidence": {str(share): round(found, 4) for share, found in tried.items()},
        "weights": {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)},
        "offset": round(offset, 4),
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, ensure_ascii=False, indent=2))
    return 0


def _mapping_for(path: Path, pairs: Sequence[str]) -> dict[str, str]:
    """Return the mapping where the workbook has other columns than GroundTune's own."""
    try:
        read_workbook(WorkbookChoice(path, skip_empty=True))
    except InputError:
        return dict(parse_mapping(list(pairs)))
    return {}


def _vectors(rows: Sequence[Row], path: Path, options: argparse.Namespace) -> dict[str, Vectors]:
    texts: dict[str, tuple[Kind, Sequence[str]]] = {
        "titles": ("passage", [row_title(row) for row in rows]),
        "answers": ("passage", [row.answer for row in rows]),
        "own": ("query", [row.question for row in rows]),
    }
    return embedded(options.model, texts, options.vectors / f"{path.stem}.npz" if options.vectors else None)


def _mean_auroc(tables: Sequence[Sequence[Table]], weights: Table) -> float:
    """Return the mean AUROC of answerable questions against the two kinds of unanswerable ones."""
    found = []
    for answerable, *kinds in tables:
        found += [auroc((answerable @ weights).tolist(), (kind @ weights).tolist()) for kind in kinds]
    return float(np.mean(found))


if __name__ == "__main__":
    sys.exit(main())
