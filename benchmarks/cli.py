"""`groundtune bench`: how fast, how many at once. One command a line; each imports what it needs when it runs."""

from __future__ import annotations

import typer

from benchmarks.engines import cli as engines_cli
from benchmarks.gateway import cli as gateway_cli
from benchmarks.load import cli as load_cli
from benchmarks.retrieval import cli as retrieval_cli
from benchmarks.tables import cli as tables_cli
from benchmarks.train import cli as train_cli

app = typer.Typer(no_args_is_help=True, help="Measure speed: load on a server, and the parts alone.")


@app.callback()
def root() -> None:
    """Groups the subcommands."""


app.command()(load_cli.load)
app.command()(load_cli.compare)
app.command()(engines_cli.engines)
app.command()(gateway_cli.gateway)
app.command()(retrieval_cli.retrieval)
app.command()(tables_cli.tables)
app.command()(train_cli.train)
