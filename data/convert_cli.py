"""`groundtune data convert`."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.errors import UsageError
from data.options import JsonOption, MapOption, RowsOption, SheetOption, SkipEmptyOption, parse_mapping


def convert(
    file: Annotated[Path, typer.Argument(help="The workbook: .xlsx, .xls or .csv.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    format_name: Annotated[
        str,
        typer.Option("--format", help="json-array (the seed's), conversation, messages or rows."),
    ] = "conversation",
    styles: Annotated[
        str, typer.Option(help="Question styles of conversation and messages: seed, plain or seed,plain.")
    ] = "seed",
    system: Annotated[str | None, typer.Option(help="The system prompt; default: the seed's.")] = None,
    sheet: SheetOption = None,
    mapping: MapOption = None,
    rows: RowsOption = None,
    skip_empty: SkipEmptyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a workbook of any size into one training file, as a stream."""
    from data.conversations import SEED_SYSTEM_PROMPT, QuestionStyle
    from data.convert import FORMATS, convert_workbook
    from data.knowledge_sheet import WorkbookChoice

    chosen = next((known for known in FORMATS if known == format_name), None)
    if chosen is None:
        raise UsageError(f"--format {format_name!r}: give one of {', '.join(FORMATS)}")
    known_styles: dict[str, QuestionStyle] = {"seed": "seed", "plain": "plain"}
    asked = [name.strip() for name in styles.split(",") if name.strip()]
    if not asked or any(name not in known_styles for name in asked):
        raise UsageError(f"--styles {styles!r}: give seed, plain or seed,plain")
    choice = WorkbookChoice(
        file, sheet=sheet, mapping=parse_mapping(mapping), max_rows=rows, skip_empty=skip_empty
    )
    # A stream of strings leaves no cycles behind; looking for them costs a twentieth of the time.
    gc.disable()
    converted = convert_workbook(
        choice,
        out,
        chosen,
        [known_styles[name] for name in asked],
        SEED_SYSTEM_PROMPT if system is None else system,
    )
    for note in converted.notes[:10]:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps({"out": str(out), "format": chosen, "num_rows": converted.num_rows}))
    else:
        print(f"written: {out} ({converted.num_rows} rows)")
