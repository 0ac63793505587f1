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
from benchmarks.compare.judge import cases, judge_questions, judge_record
from benchmarks.compare.questions import Question, RowChoice, choose
from benchmarks.compare.report import Compared, build_report
from benchmarks.compare.server import run_server
from benchmarks.compare.stale import ProbeArms, probe_record, stale_questions
from benchmarks.measures.likeness import similarities
from benchmarks.measures.prices import PriceTable
from benchmarks.measures.scores import Given, Measure, Scores, score
from data.artefacts import digest_of
from data.config import read_config
from data.diff.changes import Change
from data.manifest import folder_digest
from data.workspace import Run
from rag.versions import current_version
from serving.quickstart.scores import without_markers


@dataclass(frozen=True)
class Probe:
    """The stale-knowledge probe (benchmarks.compare.stale): the `changes` to ask about, of `num_stale` in all."""

    arms: ProbeArms
    changes: Sequence[Change]
    num_stale: int

    @property
    def both(self) -> tuple[Arm, Arm]:
        """The tuned model's two arms."""
        return self.arms.alone, self.arms.served


@dataclass(frozen=True)
class Judging:
    """Who judges, and how many of the answerable questions."""

    judge: Arm
    num_questions: int


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
        probe: What the tuned model may have learned wrong; None: nothing is.
        judging: None leaves the judge out.
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
    probe: Probe | None
    judging: Judging | None
    command: str


def compare(plan: Plan) -> dict[str, Any]:
    """Ask, score and compare; returns the report.

    Raises:
        GroundTuneError: a server is not there, or did not answer every question.
    """
    probe = None
    with Journal(plan.folder / "answers.jsonl") as journal, _Servers(plan) as servers:
        answers = _answers(plan, journal, servers, plan.arms, plan.questions, "asking")
        if plan.probe is not None:
            given = _answers(
                plan, journal, servers, plan.probe.both, stale_questions(plan.probe.changes), "stale rows"
            )
            probe = probe_record(plan.probe.changes, plan.probe.num_stale, given)
        scores = _scores(plan, answers)
        judged = _judged(plan, journal, servers, answers, scores) if plan.judging is not None else None
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
        Compared(plan.arms, plan.questions, answers, scores, plan.main, settings, plan.command, probe, judged)
    )


def identities(run: Run, arms: Sequence[Arm], stale: Sequence[Change] = ()) -> dict[str, str]:
    """Return digests of what the run's own arms depend on, as far as it lies in the run: an answer of another
    adapter, index or configuration is not used again. Of a model behind a URL nothing is known but its name.

    `stale`: where there is any, the tuned model as it is served answers from the index too.
    """
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
            may_search = arm.model.endswith("rag") or ("tuned" in arm.model and bool(stale) and not arm.body)
            if may_search:
                of_arm["index_version"] = current_version(run.index)
            found[arm.label] = digest_of(of_arm)
    return found


def _judged(
    plan: Plan,
    journal: Journal,
    servers: _Servers,
    answers: Mapping[str, Sequence[Given]],
    scores: Mapping[str, Sequence[Scores]],
) -> dict[str, Any]:
    assert plan.judging is not None
    judge = plan.judging.judge
    answerable = [place for place, question in enumerate(plan.questions) if question.wanted.is_answerable]
    places = choose(answerable, plan.judging.num_questions, plan.seed)
    found = cases(plan.arms, plan.questions, answers, places)
    replies = _answers(plan, journal, servers, (judge,), judge_questions(found), "judging")[judge.label]
    return judge_record(judge, plan.arms, found, [given.text for given in replies], scores)


def _answers(
    plan: Plan,
    journal: Journal,
    servers: _Servers,
    arms: Sequence[Arm],
    questions: Sequence[Question],
    what: str,
) -> dict[str, list[Given]]:
    """Return every arm's answers in the order of the questions, having asked for those that the journal lacks."""
    keys = {arm.label: [plan.ask.key(arm, question) for question in questions] for arm in arms}
    lacking = [arm for arm in arms if any(journal.get(key) is None for key in keys[arm.label])]
    if lacking:
        urls = servers.urls(lacking)
        with _progress(what, len(arms) * len(questions)) as advance:
            advance(sum(journal.get(key) is not None for of_arm in keys.values() for key in of_arm))
            asyncio.run(ask_arms(lacking, urls, questions, plan.ask, journal, lambda: advance(1)))
    return {label: [_known(journal.get(key)) for key in of_arm] for label, of_arm in keys.items()}


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


class _Servers:
    """Where the arms answer; the run's own server is found or started when an arm first needs it."""

    def __init__(self, plan: Plan) -> None:
        self._run = plan.run
        self._own = plan.url
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Servers:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def urls(self, arms: Sequence[Arm]) -> dict[str, str]:
        """Return the API of each arm, by label."""
        return {arm.label: arm.url or self._own_url() for arm in arms}

    def _own_url(self) -> str:
        if self._own is None:
            self._own = self._stack.enter_context(run_server(self._run))
        return self._own


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda num: progress.advance(task, num)
