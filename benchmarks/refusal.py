"""How well an index knows what it cannot answer, on workbooks and questions that nothing was learned from.

    python -m benchmarks.refusal NAME=WORKBOOK.xlsx[,QUESTIONS.jsonl] ... [--last ROW] [--every N] [--rate 0.085]

Answerable are held-out questions (a file's, or the workbook's sheet of paraphrases) with all rows there; unanswerable
are the same with every row of their topic left out and with their own row left out (a neighbour often answers all
the same), and the questions of the workbook's sheet `unanswerable`. A workbook without held-out questions is asked
its own, of which only those that the calibration did not ask: they say how often the chosen rate is exceeded, and
nothing of what is refused. Intervals are 95%, by bootstrap over questions.
Writes benchmarks/results/refusal.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learn_answerability import ROOT, embedded, index_in_memory, row_vectors
from benchmarks.machine import describe_machine
from data.held_out import questions_from_file
from data.options import parse_mapping
from data.workbook import WorkbookChoice, read_workbook
from rag.answerability import Sums
from rag.calibration import calibrate, questions_to_ask, usual_terms_of
from rag.leaving_out import Topics
from rag.refusal_report import auroc
from rag.row_texts import row_title
from rag.row_vectors import cosine_spread

RESULT = ROOT / "benchmarks" / "results" / "refusal.json"
_RESAMPLES = 1000

Scores = NDArray[np.float64]


def shares_above(scores: Scores, threshold: float) -> dict[str, Any]:
    """Return the share of `scores` above a threshold, with its interval."""
    above = (scores > threshold).astype(float)
    chosen = np.random.default_rng(0).integers(0, len(above), (_RESAMPLES, len(above)))
    return _with_interval(float(above.mean()), above[chosen].mean(axis=1))


def auroc_of(answerable: Scores, unanswerable: Scores) -> dict[str, Any]:
    """Return the AUROC with its interval."""
    random = np.random.default_rng(0)
    resampled = [
        auroc(
            answerable[random.integers(0, len(answerable), len(answerable))].tolist(),
            unanswerable[random.integers(0, len(unanswerable), len(unanswerable))].tolist(),
        )
        for _ in range(_RESAMPLES)
    ]
    return _with_interval(auroc(answerable.tolist(), unanswerable.tolist()), np.array(resampled))


def _with_interval(value: float, resampled: Scores) -> dict[str, Any]:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return {"value": round(value, 3), "interval": [round(float(low), 3), round(float(high), 3)]}


def measure(name: str, workbook: Path, questions: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return one workbook's figures."""
    mapping = parse_mapping(options.map)
    choice = WorkbookChoice(workbook, mapping=mapping, skip_empty=True, max_rows=options.last)
    knowledge = read_workbook(choice)
    rows = knowledge.rows
    asked = questions_from_file(questions, rows) if questions else list(knowledge.paraphrases)
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    asked = [each for each in asked if each.row_id in place_of][:: options.every]
    sheet = list(knowledge.unanswerable)
    vectors = embedded(
        options.model,
        {
            "titles": ("passage", [row_title(row) for row in rows]),
            "answers": ("passage", [row.answer for row in rows]),
            "own": ("query", [row.question for row in rows]),
            "others": ("query", [each.question for each in asked]),
            "unanswerable": ("query", [each.question for each in sheet]),
        },
        options.vectors / f"{name}.npz" if options.vectors else None,
    )
    both = row_vectors(vectors["titles"], vectors["answers"])
    index = index_in_memory(rows, both, usual_terms_of(rows))
    calibrated = questions_to_ask(rows)
    calibration = calibrate(
        rows, both, index.lexical, cosine_spread(both), calibrated, vectors["own"][calibrated]
    )
    threshold = index.weights.share(options.rate)
    topics = Topics(rows, both)

    def place_of_sums(sums: Sums) -> float:
        place = index.weights.place(sums, calibration.scales)
        assert place is not None, "a workbook of some topics"
        return place

    if asked:
        places = [place_of[each.row_id] for each in asked]
        looked = [index.ask(each.question, v) for each, v in zip(asked, vectors["others"], strict=True)]
    else:
        places = sorted(set(range(len(rows))) - set(calibrated))
        looked = [index.ask(rows[place].question, vectors["own"][place]) for place in places]
    kinds: dict[str, list[float]] = {"answerable": [], "topic left out": [], "row left out": []}
    for question, place in zip(looked, places, strict=True):
        left_out: tuple[Sequence[int] | NDArray[np.intp], ...] = ([], topics.of(place), [place])
        for kind, without in zip(kinds, left_out, strict=True):
            kinds[kind].append(place_of_sums(question.sums(without)))
    if sheet:
        others = [index.ask(each.question, v) for each, v in zip(sheet, vectors["unanswerable"], strict=True)]
        kinds["sheet unanswerable"] = [place_of_sums(each.sums()) for each in others]
    found = {kind: np.array(scores) for kind, scores in kinds.items()}
    return {
        "workbook": workbook.name,
        "questions": questions.name if questions else "sheet paraphrases" if asked else "the rows' own",
        "num_rows": len(rows),
        "num_questions": len(looked),
        "rate": options.rate,
        **_figures(found, threshold, of_others=bool(asked)),
    }


def _figures(found: Mapping[str, Scores], threshold: float, *, of_others: bool) -> dict[str, Any]:
    own = found["answerable"]
    unanswerable = {kind: scores for kind, scores in found.items() if kind != "answerable"}
    answered = {kind: shares_above(scores, threshold) for kind, scores in unanswerable.items()}
    if not of_others:
        return {"unanswerable_answered": answered}
    return {
        "answerable_refused": _share_refused(own, threshold),
        "unanswerable_answered": answered,
        "auroc": {kind: auroc_of(own, scores) for kind, scores in unanswerable.items()},
        "refused_at_10_percent_answered": {
            kind: round(float(np.mean(own <= np.quantile(scores, 0.9))), 3)
            for kind, scores in unanswerable.items()
        },
        "answered_at_15_percent_refused": {
            kind: round(float(np.mean(scores > np.quantile(own, 0.15))), 3)
            for kind, scores in unanswerable.items()
        },
    }


def _share_refused(scores: Scores, threshold: float) -> dict[str, Any]:
    return shares_above(-scores, float(np.nextafter(-threshold, -np.inf)))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", help="NAME=WORKBOOK[,QUESTIONS]")
    parser.add_argument("--last", type=int, help="only the first so many rows")
    parser.add_argument("--every", type=int, default=1, help="ask one in so many of the questions")
    parser.add_argument("--rate", type=float, default=0.085, help="retrieve.wrong_answer_rate")
    parser.add_argument("--map", action="append", default=[], help="COLUMN=HEADER")
    parser.add_argument("--vectors", type=Path, help="a folder to keep the texts' vectors in")
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small-asked")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"cases": {}}
    for case in options.cases:
        name, _, files = case.partition("=")
        workbook, _, questions = files.partition(",")
        measured = measure(name, Path(workbook), Path(questions) if questions else None, options)
        names = ",".join(Path(part).name for part in files.split(","))
        more = f" --last {options.last}" if options.last else ""
        more += f" --every {options.every}" if options.every > 1 else ""
        more += f" --rate {options.rate:g}" if options.rate != 0.085 else ""
        more += "".join(f" --map {json.dumps(pair)}" for pair in options.map)
        measured["command"] = f"python -m benchmarks.refusal {name}={names}{more}"
        found["cases"][name] = measured
        print(json.dumps({name: measured}, ensure_ascii=False, indent=2))
    result = {
        "what": "refusal: questions answered and refused at the calibrated threshold",
        "embedding": options.model.name,
        **describe_machine(("torch", "numpy")),
        "cases": found["cases"],
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
