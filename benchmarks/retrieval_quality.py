"""Where the right row comes for held-out questions: plain baselines against `rag index`'s default, in one run.

    python -m benchmarks.retrieval_quality NAME=WORKBOOK.xlsx[,QUESTIONS.jsonl] ... [--rows N] [--skip FIRST-LAST]

Without questions, the workbook's own sheet of paraphrases is asked. `--skip` leaves out the questions about some rows
(not the rows), which the default embedding was adapted with (data/models/patches). Baselines, on the same rows, with
the embedding that was not adapted: the vectors of column Q alone; BM25 over character bigrams of Q (bm25s, its
defaults); and the two joined by reciprocal rank fusion (k 60). Then each stage of the default index and what it makes
of them. `gain` is the paired difference of the default to the fused baseline, with a bootstrap interval.
Writes benchmarks/results/retrieval-quality.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from data.held_out import questions_from_file
from data.records import HeldOutQuestion, Row, write_records
from data.workbook import WorkbookChoice, read_workbook

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "retrieval-quality.json"
_RRF_K = 60
_DEPTH = 50
_RESAMPLES = 2000


def baseline_ranks(
    rows: Sequence[Row], asked: Sequence[HeldOutQuestion], embeddings: Any
) -> dict[str, list[float]]:
    """Return, for each baseline, the 1-based rank of each question's row; infinity where it is not found."""
    import bm25s

    vectors = embeddings.embed([row.question for row in rows], "passage")
    cosines = embeddings.embed([item.question for item in asked], "query") @ vectors.T
    lexical = bm25s.BM25()
    lexical.index([_bigrams(row.question) for row in rows], show_progress=False)
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    ranks: dict[str, list[float]] = {"e5 over Q": [], "BM25 over Q": [], "reciprocal rank fusion": []}
    for number, item in enumerate(asked):
        dense = np.argsort(-cosines[number], kind="stable")[:_DEPTH].tolist()
        scores = lexical.get_scores(_bigrams(item.question))
        words = [place for place in np.argsort(-scores, kind="stable")[:_DEPTH].tolist() if scores[place] > 0]
        fused: dict[int, float] = {}
        for ranking in (dense, words):
            for rank, place in enumerate(ranking, start=1):
                fused[place] = fused.get(place, 0.0) + 1 / (_RRF_K + rank)
        joined = sorted(fused, key=lambda place: -fused[place])
        for name, ranking in zip(ranks, (dense, words, joined), strict=True):
            right = place_of[item.row_id]
            ranks[name].append(ranking.index(right) + 1.0 if right in ranking else np.inf)
    return ranks


def _bigrams(text: str) -> list[str]:
    joined = "".join(text.lower().split())
    return [joined[place : place + 2] for place in range(max(1, len(joined) - 1))]


def default_ranks(
    rows: Sequence[Row], asked: Sequence[HeldOutQuestion], model: Path, folder: Path, embeddings: Any
) -> dict[str, list[float]]:
    """The same for the stages of the default index, and for what it answers with."""
    from rag.config import IndexSection
    from rag.index import build_index
    from rag.knowledge import open_index

    write_records(folder / "dataset" / "rows.jsonl", rows)
    build_index(folder / "dataset", model, folder / "index", IndexSection(), embeddings)
    opened = open_index(folder / "index", model, index_settings=IndexSection(threads=2))
    ranks: dict[str, list[float]] = {name: [] for name in (*opened.stages, "default")}
    for item in asked:
        hits = opened.search(item.question).hits
        place = next((n for n, hit in enumerate(hits, start=1) if hit.row.row_id == item.row_id), None)
        ranks["default"].append(np.inf if place is None else float(place))
        for name in opened.stages:
            rank = hits[place - 1].ranks.get(name) if place else None
            ranks[name].append(np.inf if rank is None else float(rank))
    opened.close()
    return ranks


def figures(ranks: Sequence[float]) -> dict[str, float]:
    """Return hit@1, hit@5 and MRR."""
    place = np.array(ranks)
    return {
        "hit@1": round(float((place <= 1).mean()), 4),
        "hit@5": round(float((place <= 5).mean()), 4),
        "MRR": round(float((1 / place).mean()), 4),
    }


def gain(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return the difference in hit@1 and its 95% interval (paired percentile bootstrap)."""
    difference = (np.array(ours) <= 1).astype(float) - (np.array(theirs) <= 1)
    chosen = np.random.default_rng(0).integers(0, len(difference), (_RESAMPLES, len(difference)))
    low, high = np.percentile(difference[chosen].mean(axis=1), (2.5, 97.5))
    return {
        "hit@1": round(float(difference.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def measure(name: str, workbook: Path, questions: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return one workbook's figures."""
    import torch

    from rag.embedding import load_embeddings

    knowledge = read_workbook(WorkbookChoice(workbook, max_rows=options.rows, skip_empty=True))
    rows = knowledge.rows
    asked = questions_from_file(questions, rows) if questions else list(knowledge.paraphrases)
    if options.questions:
        asked = asked[: options.questions]
    if options.skip:
        first, _, last = options.skip.partition("-")
        skipped = {row.row_id for row in rows[int(first) - 1 : int(last)]}
        asked = [item for item in asked if item.row_id not in skipped]
    plain, embeddings = (
        load_embeddings(folder, num_threads=torch.get_num_threads())
        for folder in (options.plain, options.model)
    )
    folder: Path = options.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    ranks = baseline_ranks(rows, asked, plain)
    ranks |= default_ranks(rows, asked, options.model, folder, embeddings)
    plain.close()
    embeddings.close()
    shutil.rmtree(folder)
    return {
        "workbook": workbook.name,
        "questions_from": questions.name if questions else "sheet paraphrases",
        "embedding": options.model.name,
        "num_rows": len(rows),
        "num_questions": len(asked),
        "systems": {system: figures(found) for system, found in ranks.items()},
        "gain_over_fusion": gain(ranks["default"], ranks["reciprocal rank fusion"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", help="NAME=WORKBOOK[,QUESTIONS]")
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small-asked")
    parser.add_argument("--plain", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--skip", help="FIRST-LAST: ask nothing about these rows, counted from 1")
    parser.add_argument("--rows", type=int, help="only the first N rows")
    parser.add_argument("--questions", type=int, help="only the first N questions")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "retrieval-quality")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"cases": {}}
    for case in options.cases:
        name, _, files = case.partition("=")
        workbook, _, questions = files.partition(",")
        measured = measure(name, Path(workbook), Path(questions) if questions else None, options)
        more = f" --rows {options.rows}" if options.rows else ""
        more += f" --skip {options.skip}" if options.skip else ""
        files = ",".join(Path(part).name for part in files.split(","))
        measured["command"] = f"python -m benchmarks.retrieval_quality {name}={files}{more}"
        found["cases"][name] = measured
        print(json.dumps({name: measured}, ensure_ascii=False, indent=2))
    result = {
        "what": "hit@1, hit@5 and MRR of held-out questions",
        **describe_machine(("torch", "sentence-transformers", "bm25s")),
        "cases": found["cases"],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
