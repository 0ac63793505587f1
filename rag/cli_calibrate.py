"""`groundtune rag calibrate`: what the index's thresholds do to questions that a row answers and to others."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from data.config import section, settle_config
from data.errors import InputError
from data.held_out import questions_from_file
from data.models.config import ModelsConfig
from data.records import HeldOutQuestion, read_records
from data.workspace import open_workspace
from rag.config import IndexSection, RetrieveSection


def calibrate(
    questions: Annotated[
        Path | None,
        typer.Argument(
            help="JSON Lines of {question, row_id} or {question, row}; default: the run's held-out questions."
        ),
    ] = None,
    rates: Annotated[
        list[float] | None, typer.Option("--rate", min=0.0, max=1.0, help="A wrong-answer rate to show.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Ask at most so many of the questions.")] = 500,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw coverage against risk.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show how many unanswerable questions each wrong-answer rate lets pass, and how many others it refuses."""
    workspace = open_workspace()
    run = workspace.run(name)
    raw = settle_config(run, config, settings or ())
    if questions and not questions.is_file():
        raise InputError(f"{questions}: no such file of questions")
    from rag.endpoint import embedding_folder
    from rag.knowledge import open_index
    from rag.refusal_report import RATES, draw_refusal, measure_refusal, print_refusal

    embedding = embedding_folder(workspace, section(raw, "models", ModelsConfig).embedding)
    index = open_index(
        run.index, embedding, section(raw, "retrieve", RetrieveSection), section(raw, "index", IndexSection)
    )
    try:
        asked = (
            questions_from_file(questions, index.rows)
            if questions
            else read_records(run.dataset / "paraphrases.jsonl", HeldOutQuestion)
        )
        if not any(question.row_id for question in asked):
            raise InputError(f"{run.dataset}: no held-out question names a row; give a file of questions")
        unanswerable = run.dataset / "unanswerable.jsonl"
        others = read_records(unanswerable, HeldOutQuestion) if unanswerable.is_file() else []
        step = max(1, -(-len(asked) // most))
        report = measure_refusal(index, asked[::step], others, sorted(rates) if rates else RATES)
    finally:
        index.close()
    if picture:
        draw_refusal(report, f"{name}: {report.num_answerable} held-out questions", picture)
    if as_json:
        shown = {key: value for key, value in asdict(report).items() if key != "scores"}
        print(json.dumps(shown, ensure_ascii=False))
        return
    print_refusal(report)
