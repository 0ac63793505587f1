"""The quickstart's order of things: steps, server, questions, report."""

from __future__ import annotations

import asyncio
import fcntl
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data.artefacts import digest_of
from data.config import RawConfig, save_config, section
from data.errors import GroundTuneError
from data.manifest import folder_digest, read_manifest
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.records import HeldOutQuestion, read_records
from data.workspace import Run, Workspace
from rag.versions import read_current_manifest
from serving.quickstart.answer_file import AnswerFile, code_digest
from serving.quickstart.asking import Answers, Asked, ask_all
from serving.quickstart.report import build_report, print_report, write_report
from serving.quickstart.settings import AskSection
from serving.quickstart.steps import StepResult, run_step, running
from serving.settings import ServeSection
from serving.state import running_url

_START_TIMEOUT_S = 300.0


def run_quickstart(
    workspace: Workspace, run: Run, raw: RawConfig, command: str, console: Console, *, ask_again: bool = False
) -> Path:
    """Do everything for one run; returns the report's path.

    Every step that finds its inputs unchanged returns at once, so a second call only reports, and a call after a
    kill goes on where the first was.

    Raises:
        GroundTuneError: a step failed, the server did not start, or a question was not answered.
    """
    ask = section(raw, "ask", AskSection)
    models = section(raw, "models", ModelsConfig)
    serve = section(raw, "serve", ServeSection)
    four = [serve.model_id(name) for name in ("base", "tuned", "base-rag", "tuned-rag")]
    with _only_one(run):
        save_config(run, raw)
        here = ("--name", run.name)
        plan = (
            ("prepare the dataset", ("data", "prepare", *here)),
            ("fetch the models", ("models", "fetch", models.base, models.embedding)),
            ("train the adapter", ("train", "run", *here)),
            ("merge it into the base", ("train", "merge", *here)),
            ("index the rows", ("rag", "index", *here)),
        )
        results: list[StepResult] = []
        for number, (name, arguments) in enumerate(plan, start=1):
            console.print(f"[bold]{number}/{len(plan) + 2}[/bold] {name}")
            results.append(run_step(name, arguments))
            console.print(
                f"    {results[-1].outcome} [dim]({results[-1].seconds:.1f} s)[/dim]", highlight=False
            )
        questions = choose_questions(read_records(run.dataset / "paraphrases.jsonl", HeldOutQuestion), ask)
        answers = run.folder / "answers.json"
        if ask_again:
            answers.unlink(missing_ok=True)
        kept = AnswerFile(answers, _answer_inputs(workspace, run, raw, questions))
        _serve_and_ask(run, questions, ask, four, kept, results, len(plan) + 1, console)
        asked = [
            Asked(question, {model: kept.answers[place, model] for model in four})
            for place, question in enumerate(questions)
        ]
        manifest = read_manifest(run.dataset)
        report = build_report(run.name, manifest.facts if manifest else {}, results, asked, command)
        folder = workspace.root / "quickstart"
        write_report(report, (run.folder, folder))
        print_report(report, Console())
        return folder / "report.html"


def choose_questions(questions: Sequence[HeldOutQuestion], ask: AskSection) -> list[HeldOutQuestion]:
    """Return the questions to ask, evenly spaced over the sheet from a start that the seed draws.

    Systematic sampling: neighbours in a sheet are alike, and a few drawn freely can all fall on a few topics.
    """
    if ask.questions == 0 or ask.questions >= len(questions):
        return list(questions)
    step = len(questions) / ask.questions
    start = random.Random(ask.seed).random()
    return [questions[int((start + number) * step)] for number in range(ask.questions)]


def _answer_inputs(
    workspace: Workspace, run: Run, raw: RawConfig, questions: Sequence[HeldOutQuestion]
) -> dict[str, str]:
    """Return digests of all that the answers depend on."""
    index = read_current_manifest(run.index)
    return {
        "base": folder_digest(resolve_model(workspace, section(raw, "models", ModelsConfig).base)),
        "merged": folder_digest(run.merged),
        "index": digest_of(dict(index.inputs) if index else {}),
        "questions": digest_of([asdict(question) for question in questions]),
        "settings": digest_of({name: raw.get(name, {}) for name in ("ask", "serve", "retrieve", "index")}),
        "code": code_digest(),
    }


def _serve_and_ask(
    run: Run,
    questions: Sequence[HeldOutQuestion],
    ask: AskSection,
    models: Sequence[str],
    kept: AnswerFile,
    results: list[StepResult],
    number: int,
    console: Console,
) -> None:
    """Ask for the answers that are not there yet; no server is started where all are."""
    total = len(questions) * len(models)
    console.print(f"[bold]{number}/{number + 1}[/bold] start the engines and the gateway")
    if len(kept.answers) == total:
        started = time.monotonic()
        results.append(_result("serve", (), started, "not needed"))
        results.append(_result("ask", (), started, f"{total} answers up to date"))
        console.print(f"    not needed: all {total} answers are up to date; --ask-again asks anew")
        return
    started = time.monotonic()
    arguments = ("serve", "--name", run.name, "--require-tuned", "--port", "0")
    with running(arguments) as server:
        url = _wait_ready(run, server)
        results.append(_result("serve", arguments, started, url))
        console.print(f"    {url} [dim]({results[-1].seconds:.1f} s)[/dim]", highlight=False, soft_wrap=True)
        console.print(
            f"[bold]{number + 1}/{number + 1}[/bold] ask {len(questions)} questions of {', '.join(models)}"
        )
        started = time.monotonic()
        with _progress(console) as bar:
            task = bar.add_task("asking", total=total, completed=len(kept.answers))

            def keep(answers: Answers) -> None:
                kept.add(answers)
                bar.advance(task, len(answers))

            asyncio.run(ask_all(url, models, questions, ask.concurrency, ask.max_tokens, kept.answers, keep))
        results.append(_result("ask", (), started, f"{total} answers"))


def _result(name: str, arguments: Sequence[str], started: float, outcome: str) -> StepResult:
    command = "groundtune " + " ".join(arguments) if arguments else ""
    return StepResult(name, command, round(time.monotonic() - started, 1), outcome)


def _wait_ready(run: Run, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise GroundTuneError("the server did not start; its message is above")
        url = running_url(run)
        if url is not None:
            return url
        time.sleep(0.1)
    raise GroundTuneError(
        f"the server was not ready within {_START_TIMEOUT_S:g} s; see the logs in {run.logs}"
    )


def _progress(console: Console) -> Progress:
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def _only_one(run: Run) -> Iterator[None]:
    """Hold the run's lock; the system lets go of it however this process ends."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GroundTuneError(
                f"another quickstart works on run {run.name!r}; wait for it, or give this one another --name"
            ) from None
        yield
