"""`groundtune compare`: fine-tune, retrieve, or both, on held-out questions."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.errors import InputError, UsageError
from data.options import JsonOption, NameOption

if TYPE_CHECKING:
    from benchmarks.compare.arms import Arm
    from benchmarks.compare.flow import Probe
    from benchmarks.compare.questions import Question
    from data.diff.changes import Change
    from data.workspace import Run

app = typer.Typer(add_completion=False, help="Compare base, tuned, base-rag, tuned-rag and other models.")


@app.command()
def compare(
    questions: Annotated[
        Path | None,
        typer.Argument(
            help="JSON Lines of question and row_id (or row, or answer, or unanswerable: true); "
            "default: the run's held-out and unanswerable questions."
        ),
    ] = None,
    arms: Annotated[
        str, typer.Option(help="Models, separated by commas; MODEL@URL for one of another server.")
    ] = "base,tuned,base-rag,tuned-rag",
    name: NameOption = "quickstart",
    url: Annotated[
        str | None, typer.Option(help="The run's API; default: its running server, else one is started.")
    ] = None,
    rows: Annotated[
        str,
        typer.Option(
            help="Ask about rows that training has not seen (unseen), that it has (trained), or all."
        ),
    ] = "all",
    limit: Annotated[int, typer.Option(min=0, help="Draw so many answerable questions; 0: all.")] = 200,
    unanswerable: Annotated[int, typer.Option(min=0, help="Draw so many unanswerable ones; 0: all.")] = 0,
    measure: Annotated[str, typer.Option(help="The measure that the verdicts are about.")] = "rouge_l",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Questions put to a model at a time; 1 for undisturbed latency.")
    ] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    prices: Annotated[
        Path | None, typer.Option(help="YAML of prices by arm, for a million tokens: see docs/compare.md.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="MODEL or MODEL@URL that says which of two answers is better, in both orders."),
    ] = None,
    judge_limit: Annotated[
        int, typer.Option(min=0, help="Put so many of the answerable questions to the judge; 0: all.")
    ] = 50,
    stale: Annotated[
        int,
        typer.Option(min=0, help="Ask about so many answers that changed since training; 0: none."),
    ] = 50,
    stale_only: Annotated[
        bool, typer.Option("--stale-only", help="Ask about nothing else than these.")
    ] = False,
    embedding: Annotated[
        str | None,
        typer.Option(help="Model for the similarity of meaning; 'none' leaves it out. Default: the run's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw of questions.")] = 17,
    timeout: Annotated[float, typer.Option(help="Seconds that one answer may take.")] = 600.0,
    api_key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key, where a server wants one.")
    ] = "OPENAI_API_KEY",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; default: var/runs/NAME/compare.")
    ] = None,
    withhold_texts: Annotated[
        bool,
        typer.Option(
            "--withhold-texts",
            help="Leave questions, answers and rows out of the files: for readers who may see the figures only.",
        ),
    ] = False,
    from_report: Annotated[
        Path | None,
        typer.Option(help="Ask nothing; write the files again from this compare.json, with --out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask every arm the same questions; say which is better, by how much, and how sure that is.

    Writes compare.json and compare.html. Answers are kept as they come: run it again after a kill.
    """
    from benchmarks.compare.arms import parse_arm, parse_arms
    from benchmarks.compare.asking import AskSettings
    from benchmarks.compare.flow import Judging, Plan, identities
    from benchmarks.compare.flow import compare as compare_arms
    from benchmarks.compare.questions import (
        ROW_CHOICES,
        about_rows,
        choose,
        questions_of_file,
        run_questions,
        where_from,
    )
    from benchmarks.compare.report import read_report
    from benchmarks.measures.prices import read_prices
    from benchmarks.measures.scores import BY_NAME
    from data.records import Row, read_records
    from data.workspace import open_workspace

    if from_report is not None:
        _show(read_report(from_report), out or from_report.parent, withhold_texts, as_json)
        return
    if measure not in BY_NAME or BY_NAME[measure].higher_is_better is None:
        known = [item.name for item in BY_NAME.values() if item.higher_is_better is not None]
        raise UsageError(f"--measure {measure!r}: choose one of {', '.join(known)}")
    about = next((choice for choice in ROW_CHOICES if choice == rows), None)
    if about is None:
        raise UsageError(f"--rows {rows!r}: choose one of {', '.join(ROW_CHOICES)}")
    workspace = open_workspace()
    run = workspace.run(name)
    chosen = parse_arms(arms.split(","))
    judging = Judging(parse_arm(judge), judge_limit) if judge is not None else None
    changes, probe = _probe(run, chosen, stale, seed)
    if stale_only and probe is None:
        print("nothing to ask: no answer that the tuned model learned is known to have changed")
        return
    answerable: list[Question] = []
    others: list[Question] = []
    if stale_only:
        chosen = []
    elif questions is None:
        answerable, others = run_questions(run.dataset)
    else:
        of_run = read_records(run.dataset / "rows.jsonl", Row) if run.dataset.is_dir() else []
        answerable, others = questions_of_file(questions, of_run)
    if answerable:
        answerable = about_rows(answerable, run.dataset, about)
    asked = choose(answerable, limit, seed) + choose(others, unanswerable, seed)
    if not asked and not stale_only:
        raise InputError(f"{questions or run.dataset}: no question to ask")
    folder = out or run.folder / "compare"
    asked_too = [
        *(probe.both if probe is not None else ()),
        *([judging.judge] if judging is not None else ()),
    ]
    digests = identities(run, [*chosen, *asked_too], changes)
    report = compare_arms(
        Plan(
            run=run,
            url=url,
            arms=chosen,
            questions=asked,
            ask=AskSettings(max_tokens, concurrency, timeout, digests, api_key_variable),
            main=BY_NAME[measure],
            prices=read_prices(prices) if prices else None,
            embedding=_embedding(embedding, name) if asked else None,
            folder=folder,
            seed=seed,
            rows=about,
            note=where_from(run.dataset) if questions is None else "",
            probe=probe,
            judging=judging if asked else None,
            command=shlex.join(["groundtune", *sys.argv[1:]]),
        )
    )
    _show(report, folder, withhold_texts, as_json)


def _show(report: Mapping[str, Any], folder: Path, withhold_texts: bool, as_json: bool) -> None:
    """Write the report's files and print it."""
    from benchmarks.compare.report import print_report, write_files
    from benchmarks.compare.withheld import without_texts

    if withhold_texts:
        report = without_texts(report)
    write_files(report, folder)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_report(report)
        print(f"report: {folder / 'compare.html'}")


def _probe(run: Run, arms: Sequence[Arm], limit: int, seed: int) -> tuple[list[Change], Probe | None]:
    """Return what the run's tuned model learned and is no longer so, and the probe of `limit` of it, if there is any.

    The tuned model is the arm of the run's server that is asked plainly, under whatever id the run serves it.
    """
    from benchmarks.compare.flow import Probe
    from benchmarks.compare.questions import choose
    from benchmarks.compare.stale import probe_arms, stale_of_run
    from data.config import section, settle_config
    from serving.settings import ServeSection

    model_id = section(settle_config(run, None), "serve", ServeSection).model_id("tuned")
    tuned = next((arm for arm in arms if arm.url is None and arm.model == model_id), None)
    if tuned is None:
        return [], None
    found = stale_of_run(run)
    if found is None:
        print(
            "note: which answers the tuned model learned cannot be told: no stale-knowledge probe",
            file=sys.stderr,
        )
    if not found or limit == 0:
        return found or [], None
    return found, Probe(probe_arms(tuned), choose(found, limit, seed), len(found))


def _embedding(reference: str | None, name: str) -> Path | None:
    """Return the folder of the embedding model; None where it is not wanted, or not said and not there."""
    from data.config import section, settle_config
    from data.models.config import ModelsConfig
    from data.models.folder import resolve_model
    from data.workspace import open_workspace

    if reference == "none":
        return None
    workspace = open_workspace()
    if reference is not None:
        return resolve_model(workspace, reference)
    try:
        return resolve_model(
            workspace, section(settle_config(workspace.run(name), None), "models", ModelsConfig).embedding
        )
    except InputError as error:
        print(f"note: no similarity of meaning: {error}", file=sys.stderr)
        return None
