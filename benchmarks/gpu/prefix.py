"""What the order of the rows in a prompt does to an engine's prefix cache: share of tokens reused, first-token time.

    python -m benchmarks.gpu.prefix --tokenizer FOLDER --out result.json           a random 7B on one GPU
    python -m benchmarks.gpu.prefix ... --more neike.xlsx,neike_paraphrases.jsonl  another workbook's questions too

Questions that people put in other words than the rows (the sample workbook's paraphrases) are asked one after the
other, with the three rows that BM25 finds, in prompts worded as rag.grounding words them: once with the rows in the
order of their ids, as GroundTune does, once best row first. TurboMind counts the tokens of prompts and those that it
found in its cache (`/metrics`). Each way has a word of its own in front, so that neither finds the other's prefixes.
`again` asks the same questions once more: the most that can be reused. Weights are random: speed, not meaning.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.serving import TUNED, add_model_arguments, ensure_model, server
from benchmarks.gpu.steps import Steps
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load
from benchmarks.processes import ROOT
from data.held_out import questions_from_file
from data.prompts import wording_for
from data.records import Row
from data.settings import PrepareSection
from data.workbook import WorkbookChoice, read_workbook
from rag.config import IndexSection
from rag.lexical import open_lexical, write_lexical
from rag.stages import Query

_PACKAGES = ("lmdeploy", "torch", "transformers")
_COUNTERS = {"prompt": "lmdeploy:prompt_tokens_total", "cached": "lmdeploy:cached_tokens_total"}
_TOP_K = 3
_QUESTION_WEIGHT = IndexSection().question_weight
_ANSWER_TOKENS = 8
# The engine counts beside serving.
_COUNTED_AFTER_S = 1.0

Asked = tuple[str, Sequence[Row]]
"""A question, and the rows that were found for it, best first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Ask each workbook's questions in both orders; returns 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_model_arguments(parser, shape="7b-gqa")
    parser.add_argument("--more", default="", help="WORKBOOK,QUESTIONS.jsonl")
    parser.add_argument("--most", type=int, default=400, help="questions of a workbook")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    steps = Steps("groundtune gpu prefix cache", options.out, _PACKAGES)
    options.work.mkdir(parents=True, exist_ok=True)
    steps.run("model", lambda: ensure_model(options, "bf16"))

    def serve() -> None:
        with server(options, "bf16", TUNED) as url:
            sample = ROOT / "data" / "知识库内容.xlsx"
            steps.run("sample", lambda: both_orders(url, options, found_rows(sample, None, options.most)))
            if options.more:
                workbook, questions = (Path(part) for part in options.more.split(","))
                steps.run(
                    workbook.stem,
                    lambda: both_orders(url, options, found_rows(workbook, questions, options.most)),
                )

    steps.run("server", serve)
    return steps.status


def found_rows(workbook: Path, questions: Path | None, most: int) -> list[Asked]:
    """Return held-out questions in a random order, each with the rows that BM25 finds for it."""
    knowledge = read_workbook(WorkbookChoice(workbook, skip_empty=True))
    rows = list(knowledge.rows)
    held_out = knowledge.paraphrases if questions is None else questions_from_file(questions, rows)
    asked = [one.question for one in held_out]
    random.Random(17).shuffle(asked)
    by_id = {row.row_id: row for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        write_lexical(Path(folder), rows, _QUESTION_WEIGHT)
        stage = open_lexical(Path(folder), list(by_id), gain=1.0)
        return [
            (text, [by_id[hit.row_id] for hit in stage.rank(Query(text, ()), _TOP_K)])
            for text in asked[:most]
        ]


def both_orders(url: str, options: argparse.Namespace, asked: Sequence[Asked]) -> dict[str, Any]:
    """Return each order's counted tokens and first-token times."""
    found: dict[str, Any] = {"num_questions": len(asked), "top_k": _TOP_K}
    for name, mark, by_id in (("order of ids", "甲", True), ("best first", "乙", False)):
        prompts = [_messages(text, rows, mark, by_id=by_id) for text, rows in asked]
        found[name] = _measured(url, options.model, prompts)
        found[f"{name}, again"] = _measured(url, options.model, prompts)
    return found


def _messages(text: str, rows: Sequence[Row], mark: str, *, by_id: bool) -> list[Mapping[str, Any]]:
    wording = wording_for(text)
    ordered = sorted(rows, key=lambda row: row.row_id) if by_id else rows
    system = "\n\n".join([mark + PrepareSection().system_prompt, wording.rules, wording.rows_text(ordered)])
    last = wording.pointing(text, rows[0]) if rows else text
    return [{"role": "system", "content": system}, {"role": "user", "content": last}]


def _measured(url: str, model: str, prompts: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    before = _counted(url)
    plan = LoadPlan(
        url=url,
        settings=RequestSettings(model, _ANSWER_TOKENS),
        levels=(Level(len(prompts), concurrency=1),),
        num_warmup=0,
    )
    (level,) = run_load(plan, prompts, None)["levels"]
    time.sleep(_COUNTED_AFTER_S)
    after = _counted(url)
    firsts = [request["ttft_ms"] for request in level["requests"] if "ttft_ms" in request]
    tokens = {name: after[name] - before[name] for name in after}
    return {
        "num_failed": level["figures"]["num_failed"],
        "prompt_tokens": tokens.get("prompt"),
        "cached_tokens": tokens.get("cached"),
        "hit_rate": round(tokens["cached"] / tokens["prompt"], 4) if tokens.get("prompt") else None,
        "ttft_ms": {f"p{part}": round(float(np.percentile(firsts, part)), 3) for part in (50, 90, 99)},
    }


def _counted(url: str) -> dict[str, float]:
    """Return the engine's counters; none of a server that counts otherwise."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for name, counter in _COUNTERS.items():
        values = re.findall(rf"^{re.escape(counter)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        if values:
            found[name] = sum(map(float, values))
    return found


if __name__ == "__main__":
    sys.exit(main())
