"""`groundtune rag endpoint`: an embedding server in place of a model that is loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def endpoint(
    folder: Annotated[Path, typer.Argument(help="Where to note it, as in var/models/embedder.")],
    url: Annotated[str, typer.Option("--url", help="The API's base, as in http://127.0.0.1:8080/v1.")],
    model: Annotated[str, typer.Option("--model", help="What the server calls its model.")],
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="The environment variable that holds the key.")
    ] = None,
    query_prompt: Annotated[
        str, typer.Option("--query-prompt", help="Put in front of questions, as in 'query: '.")
    ] = "",
    passage_prompt: Annotated[
        str, typer.Option("--passage-prompt", help="Put in front of rows, as in 'passage: '.")
    ] = "",
) -> None:
    """Use an OpenAI-compatible embedding server: asks it once, and notes it for models.embedding."""
    from rag.endpoint import write_endpoint

    given = {
        "url": url,
        "model": model,
        "api_key_env": api_key_env,
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
    }
    noted = write_endpoint(folder, given)
    print(f"{noted.model} at {noted.url}: {noted.dims} dimensions, noted in {folder}")
    print(f"use it: groundtune rag index --set models.embedding={folder}")
