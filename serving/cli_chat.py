"""`groundtune chat`: talk to a served model in the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from data.errors import GroundTuneError, UsageError

if TYPE_CHECKING:
    from openai.types import Model

app = typer.Typer(add_completion=False, help="Chat with a served model in the terminal.")

_DEFAULT_URL = "http://127.0.0.1:8000/v1"


@app.command()
def chat(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help=f"The API; default: the run's, or {_DEFAULT_URL}.")] = None,
    name: Annotated[str, typer.Option("--name", help="The run whose server to find.")] = "quickstart",
    model: Annotated[
        str, typer.Option(help="base, tuned, base-rag, tuned-rag, or a model folder.")
    ] = "tuned-rag",
    adapter: Annotated[
        Path | None, typer.Option(help="A LoRA adapter's folder, put on the model folder.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Load the folder's weights in 4 or 8 bits.")] = None,
    prompt_template: Annotated[
        str | None, typer.Option(help="internlm_chat, qwen_chat ...; default: the folder's own.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt in place of the server's.")] = None,
    api_key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key, where the server wants one.")
    ] = "OPENAI_API_KEY",
) -> None:
    """Ask questions, see the sources; /help lists commands, `exit` or Ctrl-D ends. Questions may come by a pipe."""
    from openai import APIConnectionError, APIError, DefaultHttpxClient, OpenAI
    from rich.console import Console
    from rich.markup import escape

    from data.workspace import open_workspace
    from serving.chat import Conversation, Source, converse
    from serving.chat_commands import Commands
    from serving.chat_input import message_reader
    from serving.engines.folder_server import is_folder_asked, opened_folder
    from serving.state import running_url

    workspace = open_workspace()
    if is_folder_asked(model, adapter, bits, prompt_template):
        folder = Path(model).resolve()
        url, model = context.with_resource(opened_folder(folder, adapter, bits, prompt_template)), folder.name
    url = url or running_url(workspace.run(name)) or _DEFAULT_URL
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    client = OpenAI(
        base_url=url,
        api_key=os.environ.get(api_key_variable) or "none",
        # A proxy of the environment does not lead to this machine.
        http_client=DefaultHttpxClient(trust_env=False) if local else None,
        max_retries=0,
    )
    try:
        served = [card.id for card in client.models.list() if _chats(card)]
    except APIConnectionError as error:
        raise GroundTuneError(
            f"{url}: nothing answers there; start it with `groundtune serve --name {name}`"
        ) from error
    except APIError as error:
        raise GroundTuneError(f"{url}: {error.message}") from error
    if model not in served:
        raise UsageError(f"--model {model!r}: not served at {url}; served: {', '.join(served)}")

    # Colours only on a terminal, and none at all where NO_COLOR asks for none, which Rich takes to allow dim text.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    # The answer on stdout, all else on stderr.
    console = Console(highlight=False, soft_wrap=True, color_system=colours)
    aside = Console(stderr=True, highlight=False, soft_wrap=True, color_system=colours)
    if sys.stdin.isatty():
        aside.print(f"[dim]{escape(model)} at {escape(url)}; /help, `exit` or Ctrl-D ends[/dim]")

    def show(text: str) -> None:
        console.print(text, end="", markup=False)
        console.file.flush()

    def show_source(source: Source) -> None:
        console.print(f"[dim]\\[{source.number}] {escape(source.title)}  {escape(source.url)}[/dim]")

    def show_error(message: str) -> None:
        aside.print(f"[red]{escape(message)}[/red]")

    def tell(message: str) -> None:
        aside.print(message, markup=False)

    conversation = Conversation(client, model, system)
    commands = Commands(conversation, served, tell)
    reader = message_reader(workspace.chat_history)
    if not converse(conversation, reader, show, show_source, show_error, commands.run):
        raise typer.Exit(1)


def _chats(card: Model) -> bool:
    """Tell whether a served model chats; other servers do not say, and are believed to."""
    about = (card.model_extra or {}).get("groundtune") or {}
    return about.get("kind") != "embedding"
