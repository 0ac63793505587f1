"""`groundtune data`: what can be done with a workbook before any model is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.artefacts import write_text
from data.config import save_config, section, settle_config
from data.convert_cli import convert
from data.diff.cli import diff
from data.generate.cli import generate
from data.lint.cli import lint
from data.options import (
    ConfigOption,
    JsonOption,
    MapOption,
    NameOption,
    RowsOption,
    SetOption,
    SheetOption,
    SkipEmptyOption,
    parse_mapping,
)
from data.stats.cli import stats
from data.workspace import open_workspace

app = typer.Typer(no_args_is_help=True, help="Workbook to rows and training set.")


@app.callback()
def root() -> None:
    """Groups the subcommands."""


app.command()(convert)
app.command()(lint)
app.command()(diff)
app.command()(stats)
app.command()(generate)


def workbook_overrides(
    workbook: Path | None, sheet: str | None, mapping: list[str] | None, rows: int | None, skip_empty: bool
) -> dict[str, object]:
    """Return the `workbook` section's keys that the command line gives.

    Raises:
        UsageError: a --map that is not FIELD=HEADER, or names an unknown field.
    """
    given: dict[str, object] = {}
    if workbook is not None:
        given["file"] = str(workbook)
    if sheet is not None:
        given["sheet"] = sheet
    if rows is not None:
        given["rows"] = rows
    if skip_empty:
        given["skip_empty"] = True
    if mapping:
        given["map"] = parse_mapping(mapping)
    return given


@app.command()
def prepare(
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    workbook: Annotated[Path | None, typer.Option(help="The workbook: .xlsx, .xls or .csv.")] = None,
    sheet: SheetOption = None,
    mapping: MapOption = None,
    rows: RowsOption = None,
    skip_empty: SkipEmptyOption = False,
    questions: Annotated[Path | None, typer.Option(help="Held-out questions, JSON Lines.")] = None,
    test: Annotated[float | None, typer.Option(help="Hold this share of the rows back for testing.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Hold this share of the rows back for validation.")
    ] = None,
    split_by: Annotated[
        str | None, typer.Option("--split-by", help="near-duplicates, info_1 or info_2.")
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="Extra file: conversation, json-array (the seed's) or messages."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Whose tokenizer and template to show; default: the run's base model."),
    ] = None,
    token_lengths: Annotated[
        bool, typer.Option("--token-lengths", help="Also draw the conversations' lengths in tokens.")
    ] = False,
    preview: Annotated[
        int, typer.Option(min=0, help="Show so many conversations in the model's chat template.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write that extra file here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a workbook into rows, a training set and held-out questions."""
    from data.learned import keep_learned
    from data.prepare import EXTRA_FILES, prepare_dataset
    from data.settings import PrepareSection, SplitSection, WorkbookSection

    run = open_workspace().run(name)
    raw = settle_config(run, config, settings or ())
    raw.setdefault("workbook", {}).update(workbook_overrides(workbook, sheet, mapping, rows, skip_empty))
    if questions is not None:
        raw["workbook"]["questions"] = str(questions)
    if format_name is not None:
        raw.setdefault("prepare", {})["format"] = format_name
    split_given = {"test": test, "validation": validation, "by": split_by}
    if any(value is not None for value in split_given.values()):
        raw.setdefault("split", {}).update(
            {key: value for key, value in split_given.items() if value is not None}
        )
    chosen = section(raw, "prepare", PrepareSection)
    split = section(raw, "split", SplitSection)
    keep_learned(run)
    prepared = prepare_dataset(run.dataset, section(raw, "workbook", WorkbookSection), chosen, split)
    save_config(run, raw)
    for note in prepared.notes[:10]:
        print(f"note: {note}", file=sys.stderr)
    if len(prepared.notes) > 10:
        print(f"note: and {len(prepared.notes) - 10} more", file=sys.stderr)
    if out is not None:
        made = run.dataset / EXTRA_FILES.get(chosen.format, "train.jsonl")
        write_text(out, made.read_text(encoding="utf-8"))
    facts = dict(prepared.manifest.facts)
    rendered: list[str] = []
    if token_lengths or preview:
        from data.model_view import view_dataset

        seen = view_dataset(run, raw, model, num_previewed=preview, draw=token_lengths)
        rendered = seen.rendered
        facts |= seen.facts
    if as_json:
        shown = {"dataset": str(run.dataset), **facts, **({"preview": rendered} if preview else {})}
        print(json.dumps(shown, ensure_ascii=False))
        return
    state = "written" if prepared.fresh else "up to date"
    print(
        f"dataset {state}: {run.dataset} ({facts['num_rows']} rows, {facts['num_conversations']} conversations, "
        f"{facts['num_paraphrases']} held-out questions, {facts['num_unanswerable']} unanswerable)"
    )
    if "split" in facts:
        sides = facts["split"]
        print(
            f"split by {split.by}: train {sides['num_train']} rows, validation {sides['num_validation']}, "
            f"test {sides['num_test']}, left out {sides['num_left_out']}; most alike across the sides "
            f"{sides['max_similarity']:.2f}, {sides['num_at_or_above_threshold']} pairs at or above {split.threshold}"
        )
    if "token_lengths" in facts:
        lengths = facts["token_lengths"]
        print(
            f"tokens a conversation: median {lengths['median']}, 95 % {lengths['p95']}, longest {lengths['max']}; "
            f"drawn: {lengths['picture']}"
        )
    for number, text in enumerate(rendered, start=1):
        print(f"--- conversation {number} ---\n{text}")
