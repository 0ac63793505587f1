"""A model opened in this process, behind OpenAI's HTTP protocol on a port that only this machine reaches.

So that `chat` has one way to talk: what is said to a server is said to a folder in the same words.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from data.errors import UsageError
from serving.engines.ports import bind_port
from serving.engines.prompt_templates import find_template

_MAX_TOKENS = 512
_POLL_S = 0.01


class Answering(Protocol):
    """What can answer a conversation; `FolderModel` does."""

    def answer(
        self,
        messages: Sequence[Mapping[str, str]],
        max_tokens: int,
        temperature: float,
        stop: threading.Event,
    ) -> Iterator[str]:
        """Yield the answer's text until it ends or `stop` is set."""


def is_folder_asked(model: str, adapter: Path | None, bits: int | None, prompt_template: str | None) -> bool:
    """Tell whether `--model` names a folder, not a model of a server.

    Raises:
        UsageError: it does not, and an option was given that only a folder can have.
    """
    if "/" in model or (Path(model) / "config.json").is_file():
        return True
    given = {"--adapter": adapter, "--bits": bits, "--prompt-template": prompt_template}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} needs a model folder: --model DIR (found --model {model!r})")
    return False


@contextlib.contextmanager
def opened_folder(
    folder: Path, adapter: Path | None, bits: int | None, prompt_template: str | None
) -> Iterator[str]:
    """Open the folder and yield the URL of its API, for as long as the block runs.

    Raises:
        InputError, UsageError: as FolderModel.
    """
    from serving.engines.folder_model import FolderChoice, FolderModel

    template = find_template(prompt_template) if prompt_template else None
    model = FolderModel(FolderChoice(folder, adapter, bits, template))
    with answering_at(model, folder.name) as url:
        yield url


@contextlib.contextmanager
def answering_at(model: Answering, model_id: str) -> Iterator[str]:
    """Serve `model` under `model_id` while the block runs; yields the URL, which ends in /v1."""
    bound = bind_port("127.0.0.1", 0)
    config = uvicorn.Config(
        _app(model, model_id), log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[bound])), name="folder-server", daemon=True
    )
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(_POLL_S)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(5)
        bound.close()


def _app(model: Answering, model_id: str) -> Starlette:
    async def models(_: Request) -> Response:
        card = {"id": model_id, "object": "model", "created": 0, "owned_by": "groundtune"}
        return JSONResponse({"object": "list", "data": [card]})

    async def chat(request: Request) -> Response:
        body = await request.json()
        return StreamingResponse(_events(model, model_id, body), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ]
    )


async def _events(model: Answering, model_id: str, body: Mapping[str, Any]) -> AsyncIterator[str]:
    stop = threading.Event()
    pieces = model.answer(
        body["messages"],
        int(body.get("max_tokens") or _MAX_TOKENS),
        float(body.get("temperature") or 0),
        stop,
    )
    said: asyncio.Queue[str | RuntimeError | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(item: str | RuntimeError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has gone, nobody listens
            loop.call_soon_threadsafe(said.put_nowait, item)

    def read_all() -> None:
        # One thread takes the answer from its beginning to its end, so that the model's turn is always given
        # back. Were pieces asked for one by one, a reader that left between two would leave the turn taken.
        try:
            for text in pieces:
                tell(text)
            tell(None)
        except RuntimeError as error:
            tell(error)

    threading.Thread(target=read_all, name="answer", daemon=True).start()
    try:
        while isinstance(item := await said.get(), str):
            yield _event(model_id, {"content": item}, None)
        if item is None:
            yield _event(model_id, {}, "stop")
            yield "data: [DONE]\n\n"
        else:
            yield f"data: {json.dumps({'error': {'message': str(item), 'type': 'server_error'}})}\n\n"
    finally:
        # The reader may have gone; what is being generated ends at its next token.
        stop.set()


def _event(model_id: str, delta: Mapping[str, str], finish_reason: str | None) -> str:
    chunk = {
        "id": "chatcmpl-folder",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": model_id,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
