"""What a quickstart found: summary figures, JSON, a terminal table and one self-contained HTML page."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.artefacts import write_json, write_text
from serving.quickstart.asking import Asked
from serving.quickstart.steps import StepResult

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "chromadb",
    "langchain",
    "sentence-transformers",
    "openai",
    "fastapi",
)
# Where the questions came from decides what the figures mean.
_NOTES = {
    "own": "The workbook has no paraphrases: its rows' own questions were asked, in a wording that training saw only "
    "inside the seed's template. Expect lower figures for what people really type.",
    "test": "The questions are those of rows held back from training. Retrieval has these rows in its index, in the "
    "very wording that is asked, so that its figures flatter; the tuned model has never seen them.",
}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ModelSummary:
    """One model's figures over all questions; ROUGE-L in 0..100, shares in 0..1, None where nothing is cited.

    `quoted`: answers where a row was quoted because the model's own text had no source.
    """

    rouge_l: float
    right_row_cited: float | None
    quoted: float | None
    citations_resolved: float | None
    latency_p50_s: float
    mean_completion_tokens: float


def summarise(asked: Sequence[Asked]) -> dict[str, ModelSummary]:
    """Return the figures by model id."""
    summaries = {}
    for model in asked[0].answers:
        answers = [item.answers[model] for item in asked]
        right = [answer.cites_right_row for answer in answers if answer.cites_right_row is not None]
        cited = [citation.resolves for answer in answers for citation in answer.citations]
        summaries[model] = ModelSummary(
            rouge_l=round(statistics.fmean(answer.rouge_l for answer in answers), 2),
            right_row_cited=round(statistics.fmean(right), 4) if right else None,
            quoted=round(statistics.fmean(answer.quoted for answer in answers), 4) if right else None,
            citations_resolved=round(statistics.fmean(cited), 4) if cited else None,
            latency_p50_s=round(statistics.median(answer.latency_s for answer in answers), 3),
            mean_completion_tokens=round(statistics.fmean(answer.completion_tokens for answer in answers), 1),
        )
    return summaries


def build_report(
    run_name: str,
    dataset: Mapping[str, Any],
    steps: Sequence[StepResult],
    asked: Sequence[Asked],
    command: str,
) -> dict[str, Any]:
    """Return the whole report as a JSON-like value."""
    return {
        "run": run_name,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gib": _memory_gib()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "dataset": dict(dataset),
        "note": _NOTES.get(str(dataset.get("question_source")), ""),
        "steps": [asdict(step) for step in steps],
        "summary": {model: asdict(summary) for model, summary in summarise(asked).items()},
        "questions": [
            {
                "question": item.question.question,
                "asked_from": item.question.source,
                "right_row_id": item.question.row_id,
                "reference": item.question.answer,
                "answers": {model: asdict(answer) for model, answer in item.answers.items()},
            }
            for item in asked
        ],
    }


def write_report(report: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Write report.json and report.html into each folder."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    page = environment.get_template("report.html").render(report=report)
    for folder in folders:
        write_json(folder / "report.json", report)
        write_text(folder / "report.html", page)


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the questions with all answers, then the figures."""
    for number, item in enumerate(report["questions"], start=1):
        table = Table(
            title=f"{number}. {item['question']}", title_justify="left", show_lines=True, expand=True
        )
        table.add_column("model", no_wrap=True)
        table.add_column("answer", ratio=1)
        table.add_column("cited rows", ratio=1)
        table.add_column("ROUGE-L", justify="right")
        table.add_column("s", justify="right")
        for model, answer in item["answers"].items():
            # A row that is cited twice stands here once.
            rows = {c["row_id"]: c for c in answer["citations"]}.values()
            cited = "\n".join(f"{c['title']} ({c['source'].rpartition('#')[2]})" for c in rows)
            table.add_row(
                model, answer["text"], cited, f"{answer['rouge_l']:.1f}", f"{answer['latency_s']:.1f}"
            )
        table.add_row("[dim]workbook[/dim]", f"[dim]{item['reference']}[/dim]", "", "", "")
        console.print(table)
    console.print(_summary_table(report))
    if report["note"]:
        console.print(report["note"])


def _summary_table(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"{len(report['questions'])} held-out questions", title_justify="left")
    for heading in (
        "model",
        "ROUGE-L",
        "right row cited",
        "quoted",
        "citations that resolve",
        "latency p50 (s)",
        "tokens",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, figures in report["summary"].items():
        table.add_row(
            model,
            f"{figures['rouge_l']:.1f}",
            _share(figures["right_row_cited"]),
            _share(figures["quoted"]),
            _share(figures["citations_resolved"]),
            f"{figures['latency_p50_s']:.1f}",
            f"{figures['mean_completion_tokens']:.0f}",
        )
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1)
