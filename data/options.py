"""Command-line options that several `groundtune data` commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from data.errors import UsageError

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
]
NameOption = Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
]
SheetOption = Annotated[str | None, typer.Option(help="Sheet to read; default: the first.")]
MapOption = Annotated[list[str] | None, typer.Option("--map", help="FIELD=HEADER, as in 'Q=Question'.")]
RowsOption = Annotated[int | None, typer.Option(min=1, help="Take only the first so many rows.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def parse_mapping(mapping: Sequence[str] | None) -> dict[str, str]:
    """Return field to header.

    Raises:
        UsageError: a text that is not FIELD=HEADER, or an unknown field.
    """
    from data.columns import FIELDS

    pairs = {}
    for text in mapping or ():
        name, equals, header = (part.strip() for part in text.partition("="))
        if not (name and equals and header):
            raise UsageError(f"--map {text!r}: expected FIELD=HEADER, as in --map 'Q=Question'")
        if name not in FIELDS:
            raise UsageError(f"--map {text!r}: unknown field {name!r}; fields: {', '.join(FIELDS)}")
        pairs[name] = header
    return pairs
