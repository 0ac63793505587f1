"""A comparison's report: a JSON-like value, tables on the terminal, files in a folder."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.arms import Arm
from benchmarks.compare.judge import judge_sentences
from benchmarks.compare.marks import marked
from benchmarks.compare.questions import Question
from benchmarks.compare.stale import probe_sentence
from benchmarks.compare.verdicts import Pair, Table, compare_all, findings, summarise
from benchmarks.machine import describe_machine
from benchmarks.measures.scores import MEASURES, Given, Measure, is_refusal
from benchmarks.significance import CONFIDENCE, NUM_RESAMPLES
from data.artefacts import write_json, write_text
from data.errors import InputError

KIND = "groundtune compare"
# One answer costs too little to be read.
_COST_OF = 1000
_PACKAGES = ("torch", "transformers", "sentence-transformers", "chromadb", "sacrebleu", "openai")


@dataclass(frozen=True)
class Compared:
    """Everything that a report is made of; answers and scores by arm, in the order of the questions.

    `probe` and `judged` are the records of benchmarks.compare.stale and .judge; None where they were left out.
    """

    arms: Sequence[Arm]
    questions: Sequence[Question]
    answers: Mapping[str, Sequence[Given]]
    scores: Table
    main: Measure
    settings: Mapping[str, Any]
    command: str
    probe: Mapping[str, Any] | None = None
    judged: Mapping[str, Any] | None = None


def build_report(compared: Compared) -> dict[str, Any]:
    """Return the whole report."""
    questions, main = compared.questions, compared.main
    categories = [question.category for question in questions]
    pairs = compare_all(compared.scores, categories, main)
    num_unanswerable = sum(not question.wanted.is_answerable for question in questions)
    found = findings(compared.scores, pairs, main, num_unanswerable)
    if compared.judged is not None:
        found["judge"] = judge_sentences(compared.judged)
    if compared.probe is not None:
        found["stale"] = [probe_sentence(compared.probe)]
    return {
        "kind": KIND,
        "command": compared.command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(_PACKAGES),
        "settings": {**compared.settings, "confidence": CONFIDENCE, "num_resamples": NUM_RESAMPLES},
        "arms": [asdict(arm) for arm in compared.arms],
        "main_measure": main.name,
        "measures": [asdict(measure) for measure in MEASURES],
        "num_answerable": len(questions) - num_unanswerable,
        "num_unanswerable": num_unanswerable,
        "findings": found,
        "verdicts": [sentence for of_one in found.values() for sentence in of_one],
        "judge": compared.judged,
        "stale": compared.probe,
        "summary": {
            arm: {name: asdict(interval) if interval else None for name, interval in of_arm.items()}
            for arm, of_arm in summarise(compared.scores).items()
        },
        "pairs": [_pair_record(pair) for pair in pairs],
        "questions": [
            {
                "question": question.text,
                "category": question.category,
                "source": question.source,
                "answerable": question.wanted.is_answerable,
                "reference": question.wanted.reference,
                "right_rows": list(question.wanted.right_rows),
                "answers": {
                    arm.label: _answer_record(
                        compared.answers[arm.label][place], compared.scores[arm.label][place]
                    )
                    for arm in compared.arms
                },
            }
            for place, question in enumerate(questions)
        ],
    }


def write_files(report: Mapping[str, Any], folder: Path) -> None:
    """Write compare.json and compare.html into `folder`."""
    from benchmarks.compare.page import render

    write_json(folder / "compare.json", report)
    write_text(folder / "compare.html", render(report))


def read_report(path: Path) -> dict[str, Any]:
    """Return the report of a compare.json.

    Raises:
        InputError: it is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no report to read ({error}); give the compare.json of a comparison"
        ) from error
    if not isinstance(report, dict) or report.get("kind") != KIND:
        raise InputError(f"{path}: not a report of `groundtune compare`; give its compare.json")
    return report


def with_marks(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the questions with each answer's pieces marked (benchmarks.compare.marks), for the page."""
    return [
        {
            **item,
            "answers": {
                arm: {**answer, "pieces": marked(answer["text"], item["reference"])}
                if item["answerable"]
                else {**answer, "pieces": [(answer["text"], True)]}
                for arm, answer in item["answers"].items()
            },
        }
        for item in report["questions"]
    ]


def print_report(report: Mapping[str, Any]) -> None:
    """Print the means and the verdicts on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    console = Console()
    shown = shown_measures(report)
    title = f"{report['num_answerable']} held-out questions"
    if report["num_unanswerable"]:
        title += f", {report['num_unanswerable']} that nothing answers"
    grid = Grid(title=f"{title}; means with 95% intervals", title_justify="left")
    grid.add_column("")
    for arm in report["summary"]:
        grid.add_column(escape(arm), justify="right")
    for measure in shown:
        cells = [format_interval(of_arm[measure["name"]], measure) for of_arm in report["summary"].values()]
        grid.add_row(heading(measure, report), *(escape(cell) for cell in cells))
    if shown:
        console.print(grid)
    if report["settings"].get("note"):
        console.print(escape(report["settings"]["note"]), style="dim", highlight=False)
    for sentence in report["verdicts"]:
        console.print(f"• {escape(sentence)}", highlight=False)


def shown_measures(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the measures that at least one arm has a mean of."""
    return [
        measure
        for measure in report["measures"]
        if any(of_arm[measure["name"]] is not None for of_arm in report["summary"].values())
    ]


def heading(measure: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return a measure's heading with its unit."""
    unit = {"points": "", "%": " (%)", "tokens": "", "s": " (s)"}.get(measure["unit"])
    if unit is None:
        unit = f" ({report['settings']['currency']} for {_COST_OF:,})"
    return f"{measure['label']}{unit}"


def format_interval(interval: Mapping[str, Any] | None, measure: Mapping[str, Any]) -> str:
    """Return `mean [low, high]`, or a dash."""
    if interval is None:
        return "–"
    digits = {"points": 1, "%": 1, "tokens": 0, "s": 2}.get(measure["unit"], 3)
    scale = _COST_OF if measure["unit"] == "cost" else 1
    mean, low, high = (scale * interval[end] for end in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _pair_record(pair: Pair) -> dict[str, Any]:
    comparison = pair.comparison
    return {
        "first": pair.first,
        "second": pair.second,
        "measure": pair.measure.name,
        "category": pair.category,
        "difference": asdict(comparison.difference),
        "confidence": comparison.confidence,
        "mcnemar_p": comparison.mcnemar_p,
        "better": pair.better,
    }


def _answer_record(given: Given, scores: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "text": given.text,
        "refused": is_refusal(given),
        "cited": None if given.cited is None else [asdict(passage) for passage in given.cited],
        "scores": {name: None if value is None else round(value, 6) for name, value in scores.items()},
    }
