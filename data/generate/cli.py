"""`groundtune data generate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.errors import UsageError
from data.options import JsonOption, NameOption

if TYPE_CHECKING:
    from data.generate.asking import Request
    from data.generate.checking import AnswerStyle, Draft

_HEADERS = ("info_1", "info_2", "Q", "A", "source", "span", "score", "状态")
_WIDTHS = (14, 14, 40, 60, 24, 60, 8, 8)


def generate(
    sources: Annotated[
        list[Path], typer.Argument(help="Text, Markdown, HTML, .docx or PDF, or folders of these.")
    ],
    out: Annotated[Path, typer.Option(help="The .xlsx of draft rows to write.")],
    questions: Annotated[int, typer.Option(min=1, max=20, help="So many questions a chunk.")] = 3,
    paraphrase: Annotated[
        int, typer.Option(min=0, max=20, help="Instead: so many other wordings of each row of a workbook.")
    ] = 0,
    existing: Annotated[
        list[Path] | None, typer.Option(help="A workbook whose questions need no drafts any more.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible API; default: $OPENAI_BASE_URL, or the run's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Whom to ask there; default: base, or the first.")] = None,
    name: NameOption = "quickstart",
    chunk: Annotated[int, typer.Option(min=50, max=8000, help="Characters of a chunk, at most.")] = 400,
    min_score: Annotated[
        float, typer.Option(min=0.1, max=1, help="Share of an answer that the text must hold.")
    ] = 0.6,
    answers: Annotated[
        str, typer.Option(help="quote: the text's sentences; own: the model's words.")
    ] = "quote",
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a reply.")] = 300,
    api_key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key, where the server wants one.")
    ] = "OPENAI_API_KEY",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draft rows from documents, each with the text that supports it, for people to approve (状态 待审)."""
    style: AnswerStyle | None = {"quote": "quote", "own": "own"}.get(answers)  # type: ignore[assignment]
    if style is None:
        raise UsageError(f"--answers {answers!r}: give quote or own")
    if out.suffix.lower() != ".xlsx":
        raise UsageError(f"--out {out}: an .xlsx is written; give a name that ends so")
    if out.exists() and not force:
        raise UsageError(
            f"{out}: is there already, perhaps with somebody's work in it; pass --force, or another name and "
            f"--existing {out} for what is not in it"
        )
    from data.drafts import write_review_sheet
    from data.generate.drafting import Wanted, chunk_drafts, chunk_requests, row_drafts, row_requests
    from data.generate.duplicates import existing_questions
    from data.generate.endpoint import find_url, open_endpoint
    from data.row_source import RowSource, read_rows
    from data.workspace import open_workspace

    endpoint_url = find_url(url, open_workspace().run(name))
    wanted = Wanted(paraphrase or questions, min_score, style)
    asked_already = [text for path in existing or () for text in existing_questions(path)]
    drafts: list[Draft]
    if paraphrase:
        rows = [row for path in sources for row in read_rows(RowSource(path))]
        row_work = row_requests(rows, wanted)
        endpoint = open_endpoint(endpoint_url, model, api_key_variable)
        replies = _replies(row_work, endpoint, out, concurrency, timeout)
        drafts = row_drafts(row_work, replies, rows, wanted)
    else:
        work = chunk_requests(sources, chunk, wanted)
        endpoint = open_endpoint(endpoint_url, model, api_key_variable)
        replies = _replies(work, endpoint, out, concurrency, timeout)
        drafts = chunk_drafts(work, replies, wanted, asked_already)
    cells = ((d.info_1, d.info_2, d.question, d.answer, d.source, d.span, d.score, "待审") for d in drafts)
    write_review_sheet(out, _HEADERS, _WIDTHS, cells)
    num_empty = sum(not reply for reply in replies.values())
    if as_json:
        told = {"file": str(out), "asked": len(replies), "malformed": num_empty, "drafts": len(drafts)}
        print(json.dumps(told, ensure_ascii=False))
        return
    if num_empty:
        print(f"note: {num_empty} of {len(replies)} replies were malformed every time", file=sys.stderr)
    print(f"written: {out} ({len(drafts)} draft rows of {len(replies)} {'rows' if paraphrase else 'chunks'})")


def _replies(
    work: Mapping[Request, object], endpoint: object, out: Path, concurrency: int, timeout_s: float
) -> dict[Request, str]:
    """Ask what the journal beside `out` does not hold; return every reply."""
    import asyncio

    from data.generate.asking import ask_all
    from data.generate.endpoint import Endpoint
    from data.generate.journal import open_journal

    assert isinstance(endpoint, Endpoint)
    with open_journal(out.with_suffix(".journal.jsonl")) as journal:
        known = sum(journal.get(request.key(endpoint.model)) is not None for request in work)
        if known:
            print(f"note: {known} of {len(work)} were asked before", file=sys.stderr)
        with _progress(len(work), known) as advance:
            asyncio.run(ask_all(list(work), endpoint, journal, concurrency, timeout_s, advance))
        return {request: journal.get(request.key(endpoint.model)) or "" for request in work}


@contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking", total=total, completed=done)
        yield lambda: progress.advance(task)
