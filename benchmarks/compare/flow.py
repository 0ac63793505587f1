"""One comparison from the questions to the report."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.arms import Arm
from benchmarks.compare.asking import AskSettings, ask_arms
from benchmarks.compare.journal import Journal
from benchmarks.compare.questions import Question, RowChoice
from benchmarks.compare.report import Compared, build_report
from benchmarks.compare.server import run_server
from benchmarks.measures.likeness import similarities
from benchmarks.measures.prices import PriceTable
from benchmarks.measures.scores import Given, Measure, Scores, score
from data.artefacts import digest_of
from data.config import read_config
from data.manifest import folder_digest
from data.workspace import Run
from rag.versions import current_version
from serving.quickstart.scores import without_markers


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        run: Whose server answers for arms without a URL.
        url: That server's API, where it is not to be found or started.
        arms: The models, in the order in which they are shown.
        questions: Answerable ones first.
        ask: How they are asked.
        main: The measure that verdicts are about.
        prices: Prices by arm; None leaves the cost out.
        embedding: Folder of the model for the similarity of meaning; None leaves it out.
        folder: Gets the journal.
        seed: With which the questions were drawn.
        rows: Which rows the questions are about, as `about_rows` takes it.
        note: What a reader must know of the questions; "" for nothing.
        command: As the user typed it.
    """

    run: Run
    url: str | None
    arms: Sequence[Arm]
    questions: Sequence[Question]
    ask: AskSettings
    main: Measure
    prices: PriceTable | None
    embedding: Path | None
    folder: Path
    seed: int
    rows: RowChoice
    note: str
    command: str


def compare(plan: Plan) -> dict[str, Any]:
    """Ask, score and compare; returns the report.

    Raises:
        GroundTuneError: a server is not there, or did not answer every question.
    """
    with Journal(plan.folder / "answers.jsonl") as journal:
        wanted = [(arm, question) for arm in plan.arms for question in plan.questions]
        missing = {arm.label for arm, item in wanted if journal.get(plan.ask.key(arm, item)) is None}
        if missing:
            with _urls(plan, missing) as urls, _progress(len(wanted)) as advance:
                advance(sum(journal.get(plan.ask.key(arm, item)) is not None for arm, item in wanted))
                asked = [arm for arm in plan.arms if arm.label in missing]
                asyncio.run(ask_arms(asked, urls, plan.questions, plan.ask, journal, lambda: advance(1)))
        answers = {
            arm.label: [_known(journal.get(plan.ask.key(arm, item))) for item in plan.questions]
            for arm in plan.arms
        }
    scores = _scores(plan, answers)
    settings = {
        "run": plan.run.name,
        "rows": plan.rows,
        "note": plan.note,
        "max_tokens": plan.ask.max_tokens,
        "concurrency": plan.ask.concurrency,
        "seed": plan.seed,
        "embedding": plan.embedding.name if plan.embedding else None,
        "currency": plan.prices.currency if plan.prices else None,
    }
    return build_report(
        Compared(plan.arms, plan.questions, answers, scores, plan.main, settings, plan.command)
    )


def identities(run: Run, arms: Sequence[Arm]) -> dict[str, str]:
    """Return digests of what the run's own arms depend on, as far as it lies in the run: an answer of another
    adapter, index or configuration is not used again. Of a model behind a URL nothing is known but its name."""
    config = read_config(run.config) if run.config.is_file() else {}
    parts: dict[str, Any] = {
        name: config.get(name, {}) for name in ("models", "serve", "retrieve", "index", "prepare")
    }
    found = {}
    for arm in arms:
        if arm.url is None:
            of_arm = dict(parts)
            if "tuned" in arm.model and run.merged.is_dir():
                of_arm["merged"] = folder_digest(run.merged)
            if arm.model.endswith("rag"):
                of_arm["index_version"] = current_version(run.index)
            found[arm.label] = digest_of(of_arm)
    return found


def _known(given: Given | None) -> Given:
    assert given is not None, "every question was asked"
    return given


def _scores(plan: Plan, answers: Mapping[str, Sequence[Given]]) -> dict[str, list[Scores]]:
    references = [question.wanted.reference for question in plan.questions]
    meant: dict[str, Sequence[float | None]] = {arm: [None] * len(references) for arm in answers}
    if plan.embedding is not None:
        from rag.embedding import load_embeddings

        embeddings = load_embeddings(plan.embedding)
        for arm, of_arm in answers.items():
            texts = [without_markers(given.text) for given in of_arm]
            meant[arm] = similarities(embeddings, texts, references)
        embeddings.close()
    prices = plan.prices.models if plan.prices else {}
    return {
        arm: [
            score(given, question.wanted, prices.get(arm), similarity)
            for given, question, similarity in zip(of_arm, plan.questions, meant[arm], strict=True)
        ]
        for arm, of_arm in answers.items()
    }


@contextlib.contextmanager
def _urls(plan: Plan, labels: set[str]) -> Iterator[dict[str, str]]:
    """Yield each arm's URL; the run's server is up meanwhile if one of `labels` needs it."""
    urls = {arm.label: arm.url for arm in plan.arms if arm.url is not None}
    own = [arm.label for arm in plan.arms if arm.url is None]
    if plan.url is not None:
        yield {**urls, **dict.fromkeys(own, plan.url)}
    elif labels & set(own):
        with run_server(plan.run) as url:
            yield {**urls, **dict.fromkeys(own, url)}
    else:
        yield urls


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking", total=total)
        yield lambda num: progress.advance(task, num)
