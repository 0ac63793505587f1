"""The `groundtune` command: finds a subcommand's module when it is asked for, so that --help stays fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from data.errors import GroundTuneError

# Subcommand: the module that holds its Typer `app`, and its line in --help. Named as text because nothing
# below may be imported until it is called, and because serving knows neither training nor benchmarks.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "quickstart": (
        "serving.quickstart.cli",
        "Take a workbook to a tuned, served, grounded assistant and compare.",
    ),
    "data": ("data.cli", "Workbook to rows and training set."),
    "models": ("training.cli_models", "Fetch, list and convert base and embedding models."),
    "train": ("training.cli", "Fine-tune with LoRA, merge the adapter."),
    "rag": ("rag.cli", "Index the rows, search them."),
    "serve": (
        "serving.cli_serve",
        "Serve base, tuned, base-rag and tuned-rag behind one OpenAI-compatible API.",
    ),
    "chat": ("serving.cli_chat", "Chat with a served model in the terminal."),
    "compare": ("benchmarks.compare.cli", "Compare base, tuned, base-rag, tuned-rag and other models."),
    "doctor": ("serving.doctor.cli", "Look at this machine and a run, and name a fix for each fault."),
    "bench": ("benchmarks.cli", "Measure speed: load on a server, and the parts alone."),
}


class LazyGroup(TyperGroup):
    """Lists the table above without importing it and loads one subcommand's module when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if getattr(ctx, "resilient_parsing", False) or _asks_for_root_help(sys.argv[1:]):
            return _named(cmd_name, summary)
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        return command


def _asks_for_root_help(arguments: list[str]) -> bool:
    return not arguments or arguments[0] in ("--help", "-h")


def _named(name: str, summary: str) -> Any:
    """A stand-in that carries a subcommand's name and summary into the root's --help."""
    stub = typer.Typer(add_completion=False)
    stub.command(help=summary)(lambda: None)
    command = typer.main.get_command(stub)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn an Excel knowledge base into an assistant, by fine-tuning and by retrieval, and compare the two.",
)


@app.callback()
def root() -> None:
    """Dispatches; has no options of its own."""


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 the job failed, 2 the command line or configuration is wrong."""
    try:
        app()
    except GroundTuneError as error:
        print(f"groundtune: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("groundtune: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
