"""Learns what the signs of an answer weigh (rag.signs) and where people's scores lie; rag/answerability.json keeps it.

    python -m benchmarks.learn_answerability WORKBOOK.xlsx QUESTIONS.jsonl --learn 1001-2500 --place 2501-3000

Weights are the sum of two logistic regressions with a ridge penalty, each scaled so that a median answerable question
scores 1 more than a median unanswerable one. Both ask of the rows of `--learn`, once with all rows there and once with
the question's topic left out:

people's own questions, every second one whole, of the others the one or two clauses that say most of the row's title,
since some people write stories and some write a line;
the rows' own questions, of which the index holds the answers alone: a question is a copy of what it should find, and
who learns from copies learns to know copies. What leads in a ranking, and the sum of both, is learned from people only.

Plain weights come of the same two regressions without any sign that would weigh less than nothing.

Then where unanswerable questions of people lie between the rows' own, without their topic (0) and with everything
there (1): of the rows of `--place`, which nothing was learned from, whole and shortened. `plain_lead` is such that of
the wrong answers at the default rate an eighth would be by the plain weights alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import re
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
from data.records import HeldOutQuestion, Row
from data.workbook import WorkbookChoice, read_workbook
from rag.answerability import WEIGHTS, Answerability
from rag.calibration import questions_to_ask, usual_terms_of
from rag.config import IndexSection
from rag.leaving_out import AskedOfRows, LeavingOut, Topics
from rag.lexical import SPREADS_PER_BM25, open_lexical, write_lexical
from rag.row_texts import row_title
from rag.row_vectors import cosine_spread
from rag.signs import Signs
from rag.terms import terms

ROOT = Path(__file__).parents[1]
_RIDGE = 10.0
_STEPS = 50
_NUM_SHARES = 200
_RATE = 0.085
_FROM_PEOPLE_ONLY = ("evidence", "wording_lead", "cosine_lead")
_CLAUSES = re.compile(r"[，。？！；,.?!;\s]+")
_SHORTEST = 6

Vectors = NDArray[np.float32]
Table = NDArray[np.float64]
Kind = Literal["query", "passage"]


def rows_without_questions(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with nothing but their answers (and info_1 beside them, for the agreement of neighbours)."""
    return [dataclasses.replace(row, question="", info_2="") for row in rows]


def shortened(message: str, row: Row, rng: random.Random) -> str:
    """Return the one or two clauses of a message that say most of the row's title; all where there are no clauses."""
    clauses = [clause for clause in _CLAUSES.split(message) if clause]
    title = set(terms(row_title(row)))
    best, most = message, -math.inf
    for start in range(len(clauses) if len(clauses) > 1 else 0):
        for some in (clauses[start : start + 1], clauses[start : start + 2]):
            text = "，".join(some)
            said = set(terms(text))
            share = len(said & title) / math.sqrt(max(1, len(said))) + rng.random() / 20
            if len(text) >= _SHORTEST and share > most:
                best, most = text, share
    return best


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


def _tables(asked: Sequence[AskedOfRows], places: Sequence[int], topics: Topics) -> list[Table]:
    """Return the signs of questions about the rows at `places`: with all rows there, and without the topic."""
    kinds = (
        [each.signs() for each in asked],
        [each.signs(topics.of(place)) for each, place in zip(asked, places, strict=True)],
    )
    return [np.array([astuple(signs) for signs in kind if signs is not None]) for kind in kinds]


def fit(answerable: Table, unanswerable: Table) -> Table:
    """Return the weights of a logistic regression with a ridge penalty, scaled as the module says.

    Both sides weigh the same in it.
    """
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
        found = found + np.linalg.solve(curve, slope)
    weights: Table = found[:-1] / scale
    gap = float(np.median(answerable @ weights) - np.median(unanswerable @ weights))
    weights /= gap
    return weights


def fit_plain(answerable: Table, unanswerable: Table) -> Table:
    """Return such weights of which none is negative: the most negative sign goes, until none is."""
    left = np.arange(answerable.shape[1])
    while (weights := fit(answerable[:, left], unanswerable[:, left])).min() < 0:
        left = np.delete(left, weights.argmin())
    whole = np.zeros(answerable.shape[1])
    whole[left] = weights
    return whole


def embedded(
    model: Path, texts: Mapping[str, tuple[Kind, Sequence[str]]], kept: Path | None
) -> dict[str, Vectors]:
    """Return the vectors of each list of texts; from `kept` where that was made of as many."""
    if kept and kept.is_file():
        with np.load(kept, allow_pickle=False) as saved:
            vectors = {name: saved[name] for name in saved.files}
        if {name: len(vectors.get(name, ())) for name in texts} != {
            name: len(some) for name, (_, some) in texts.items()
        }:
            raise InputError(f"{kept}: the vectors of other texts; remove it")
        return vectors
    import torch

    from rag.embedding import load_embeddings

    embeddings = load_embeddings(model, num_threads=torch.get_num_threads())
    vectors = {name: embeddings.embed(list(some), kind) for name, (kind, some) in texts.items()}
    embeddings.close()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **vectors)
    return vectors


class Part:
    """Some rows of the workbook with what people asked of them, whole and shortened, and all vectors."""

    def __init__(
        self, rows: Sequence[Row], asked: Sequence[HeldOutQuestion], options: argparse.Namespace, name: str
    ) -> None:
        self.rows = rows
        place_of = {row.row_id: place for place, row in enumerate(rows)}
        own = [each for each in asked if each.row_id in place_of]
        self.places = [place_of[each.row_id] for each in own]
        rng = random.Random(0)
        self.whole = [each.question for each in own]
        self.short = [
            shortened(each.question, rows[place], rng) for each, place in zip(own, self.places, strict=True)
        ]
        texts: dict[str, tuple[Kind, Sequence[str]]] = {
            "titles": ("passage", [row_title(row) for row in rows]),
            "answers": ("passage", [row.answer for row in rows]),
            "own": ("query", [row.question for row in rows]),
            "whole": ("query", self.whole),
            "short": ("query", self.short),
        }
        self.vectors = embedded(
            options.model, texts, options.vectors / f"{name}.npz" if options.vectors else None
        )
        self.both = row_vectors(self.vectors["titles"], self.vectors["answers"])
        self.topics = Topics(rows, self.both)
        self.usual_terms = usual_terms_of(rows)

    def people(self, weights: Answerability, whole: slice, short: slice) -> list[Table]:
        """Return the signs of people's questions."""
        index = index_in_memory(self.rows, self.both, self.usual_terms, weights)
        asked = [
            index.ask(text, vector)
            for texts, name, some in ((self.whole, "whole", whole), (self.short, "short", short))
            for text, vector in zip(texts[some], self.vectors[name][some], strict=True)
        ]
        return _tables(asked, [*self.places[whole], *self.places[short]], self.topics)

    def own(self, weights: Answerability, *, hidden: bool) -> list[Table]:
        """Return the signs of the rows' own questions; `hidden`: of the rows, the index has the answers alone."""
        rows = rows_without_questions(self.rows) if hidden else self.rows
        vectors = self.vectors["answers"] if hidden else self.both
        index = index_in_memory(rows, vectors, self.usual_terms, weights)
        places = questions_to_ask(self.rows)
        asked = [index.ask(self.rows[place].question, self.vectors["own"][place]) for place in places]
        return _tables(asked, places, self.topics)


def _rows(text: str) -> slice:
    first, _, last = text.partition("-")
    return slice(int(first) - 1, int(last))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workbook", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--learn", required=True, help="FIRST-LAST, rows counted from 1")
    parser.add_argument("--place", required=True, help="FIRST-LAST")
    parser.add_argument("--vectors", type=Path, help="a folder to keep the texts' vectors in")
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small-asked")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(argv)

    rows = read_workbook(WorkbookChoice(options.workbook, skip_empty=True)).rows
    asked = questions_from_file(options.questions, rows)
    learn, place = (
        Part(rows[_rows(text)], asked, options, f"{name}-{text}")
        for name, text in (("learn", options.learn), ("place", options.place))
    )
    # Signs only are read: there need be no weights yet.
    unweighted = Answerability({}, {})
    people = learn.people(unweighted, slice(0, None, 2), slice(1, None, 2))
    hidden = learn.own(unweighted, hidden=True)
    names = [field.name for field in fields(Signs)]
    both = [number for number, name in enumerate(names) if name not in _FROM_PEOPLE_ONLY]
    learned = []
    for fitted in (fit, fit_plain):
        weights = fitted(people[0], people[1])
        weights[both] += fitted(hidden[0][:, both], hidden[1][:, both])
        learned.append(weights)
    own = place.own(unweighted, hidden=False)
    unanswerable = place.people(unweighted, slice(None), slice(None))[1]
    shares = []
    for weights in learned:
        there, without = (float(np.median(table @ weights)) for table in own)
        shares.append((unanswerable @ weights - without) / (there - without))
    lead = float(np.quantile(shares[1], 1 - _RATE / 8) - np.quantile(shares[0], 1 - _RATE))
    levels = (np.arange(_NUM_SHARES) + 0.5) / _NUM_SHARES
    weighed, plain = (
        {name: round(float(weight), 5) for name, weight in zip(names, weights, strict=True)}
        for weights in learned
    )
    result: dict[str, Any] = {
        "what": "what the signs of an answer weigh, and where people's unanswerable questions lie (rag.answerability)",
        "command": f"python -m benchmarks.learn_answerability {options.workbook.name} {options.questions.name} "
        f"--learn {options.learn} --place {options.place}",
        **describe_machine(("torch", "numpy")),
        "embedding": options.model.name,
        "num_questions": {"people": len(people[0]), "own": len(hidden[0]), "place": len(unanswerable)},
        "weights": weighed,
        "plain": plain,
        "plain_lead": round(lead, 4),
        "unanswerable": [
            round(float(share), 4) for share in np.quantile(np.maximum(shares[0], shares[1] - lead), levels)
        ],
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
