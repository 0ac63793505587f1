"""`groundtune rag`: index the rows, search them, and see how well they are found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.config import RawConfig, section, settle_config
from data.errors import InputError
from data.held_out import questions_from_file
from data.models.config import ModelsConfig
from data.records import HeldOutQuestion, read_records
from data.workspace import Run, open_workspace
from rag.cli_calibrate import calibrate
from rag.cli_endpoint import endpoint
from rag.cli_inbox import inbox
from rag.cli_versions import print_build, rollback, versions
from rag.config import IndexSection, RetrieveSection

if TYPE_CHECKING:
    from rag.knowledge import KnowledgeIndex
    from rag.stages import Search

app = typer.Typer(no_args_is_help=True, help="Index the rows, search them.")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
]
NameOption = Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def root() -> None:
    """Groups the subcommands."""


app.command()(versions)
app.command()(rollback)
app.command()(calibrate)
app.command()(inbox)
app.command()(endpoint)


@app.command()
def index(
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the run's index follow its rows: embed new and changed ones, drop removed ones, switch when done."""
    from rag.endpoint import embedding_folder
    from rag.index import build_index

    workspace = open_workspace()
    run = workspace.run(name)
    raw = settle_config(run, config, settings or ())
    chosen = section(raw, "index", IndexSection)
    embedding = embedding_folder(workspace, section(raw, "models", ModelsConfig).embedding)
    print_build(run.index, build_index(run.dataset, embedding, run.index, chosen), as_json=as_json)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="The question, as a user would ask it.")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Rows to show.")] = 5,
    info_1: Annotated[
        list[str] | None, typer.Option("--info-1", help="Search rows of this info_1 only; may be repeated.")
    ] = None,
    info_2: Annotated[
        list[str] | None, typer.Option("--info-2", help="Search rows of this info_2 only; may be repeated.")
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", help="A question asked before, to understand this one by; may be repeated."),
    ] = None,
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that are found for a question, and each stage's rank of them."""
    run = open_workspace().run(name)
    opened = _open(run, settle_config(run, config, settings or ()))
    from rag.filters import RowFilter
    from rag.follow_up import search_in_turn
    from rag.subjects import Subjects, subjects_of

    try:
        only = RowFilter(tuple(info_1 or ()), tuple(info_2 or ()))
        subjects = subjects_of(opened.rows) if after else Subjects()
        searched, found = search_in_turn(opened, [*(after or ()), question], subjects, top_k, only)
    finally:
        opened.close()
    if as_json:
        hits = [{**asdict(hit.row), "score": hit.score, "ranks": dict(hit.ranks)} for hit in found.hits]
        judged = {
            "evidence": found.evidence,
            "answerability": found.answerability,
            "is_doubtful": found.is_doubtful,
            "is_verbatim": found.is_verbatim,
        }
        record = {"searched": searched, "hits": hits, **judged, "timings_ms": dict(found.timings_ms)}
        print(json.dumps(record, ensure_ascii=False))
        return
    if searched != question:
        print(f"searched: {searched}", file=sys.stderr)
    _print_hits(found, opened.stages)


@app.command(name="eval")
def evaluate_retrieval(
    questions: Annotated[
        Path | None,
        typer.Argument(
            help="JSON Lines of {question, row_id} or {question, row}, the row's number in the sheet; "
            "default: the run's held-out questions."
        ),
    ] = None,
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    chart: Annotated[Path | None, typer.Option("--chart", help="Draw the figures into this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask held-out questions and count how often each stage finds the right row."""
    run = open_workspace().run(name)
    raw = settle_config(run, config, settings or ())
    if questions and not questions.is_file():
        raise InputError(f"{questions}: no such file of questions")
    opened = _open(run, raw)
    if questions:
        asked = questions_from_file(questions, opened.rows)
        if left_out := len(questions.read_text(encoding="utf-8").split("\n{")) - len(asked):
            print(
                f"note: {left_out} questions name rows that the index does not hold: left out",
                file=sys.stderr,
            )
    else:
        asked = read_records(run.dataset / "paraphrases.jsonl", HeldOutQuestion)
    if not any(question.row_id for question in asked):
        raise InputError(f"{run.dataset}: no held-out question names a row; give a file of questions")
    from rag.eval_report import draw_report, print_report
    from rag.evaluation import evaluate

    report = evaluate(opened, asked)
    opened.close()
    if report.num_unknown:
        print(f"note: {report.num_unknown} questions name rows that the index does not hold", file=sys.stderr)
    if chart:
        draw_report(report.stages, f"{name}: {report.num_questions} held-out questions", chart)
    if as_json:
        print(json.dumps(asdict(report), ensure_ascii=False))
        return
    print_report(report)


def _open(run: Run, raw: RawConfig) -> KnowledgeIndex:
    from rag.endpoint import embedding_folder

    retrieve = section(raw, "retrieve", RetrieveSection)
    index_settings = section(raw, "index", IndexSection)
    embedding = embedding_folder(open_workspace(), section(raw, "models", ModelsConfig).embedding)
    from rag.knowledge import open_index
    from rag.rerank import open_reranker

    reranker = open_reranker(open_workspace(), retrieve, index_settings.device)
    return open_index(run.index, embedding, retrieve, index_settings, reranker=reranker)


def _print_hits(found: Search, stages: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("#", "score", *stages)
    for heading in ("info_1", "info_2", "Q", "source"):
        table.add_column(heading, overflow="fold")
    for place, hit in enumerate(found.hits, start=1):
        ranks = [str(hit.ranks.get(stage, "-")) for stage in stages]
        row = hit.row
        cells = [str(place), f"{hit.score:.3f}", *ranks, row.info_1, row.info_2, row.question, row.source]
        table.add_row(*(_plain(cell) for cell in cells))
    Console().print(table)
    if found.evidence is not None:
        judged = "; would be refused" if found.is_doubtful else ""
        judged += "; would be given word for word" if found.is_verbatim else ""
        told = "" if found.answerability is None else f", answerability {found.answerability:.2f}"
        print(f"evidence {found.evidence:.4f}{told}{judged}", file=sys.stderr)
    print(" ".join(f"{part} {taken:.0f} ms" for part, taken in found.timings_ms.items()), file=sys.stderr)


def _plain(cell: str) -> str:
    """Keep a cell's square brackets from being read as markup."""
    from rich.markup import escape

    return escape(cell)
