"""An OpenAI-compatible server whose answers a test writes, in the shapes that real engines have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse


class ScriptedEngine:
    """Answers with `texts`; the other attributes make it go wrong. `requests` is what it was asked.

    Attributes:
        texts: The pieces of every answer.
        delay_s: Waits so long before each piece.
        status: Anything but 200 is answered at once, with `error_body`.
        stop_after: Ends the connection after so many pieces, as a killed process does.
        error_after: Sends an error event after so many pieces, as transformers does.
        num_cancelled: How many answers were given up because the connection was closed.
        num_open: How many answers are being written.
    """

    def __init__(self) -> None:
        self.texts: list[str] = ["你", "好", "。"]
        self.delay_s = 0.0
        self.status = 200
        self.error_body: Mapping[str, Any] = {"detail": "no"}
        self.stop_after: int | None = None
        self.error_after: int | None = None
        self.finish_reason = "stop"
        self.tool_calls: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.num_cancelled = 0
        self.num_open = 0

    @property
    def app(self) -> FastAPI:
        """The server."""
        app = FastAPI()

        @app.post("/v1/{path:path}")
        async def answer(path: str, request: Request) -> Response:
            body = await request.json()
            self.requests.append({"path": path, **body})
            if self.status != 200:
                return JSONResponse(self.error_body, self.status)
            if not body.get("stream"):
                message = {"role": "assistant", "content": "".join(self.texts)}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                await asyncio.sleep(self.delay_s)
                return JSONResponse({"choices": [{"index": 0, "message": message}], "usage": usage})
            return StreamingResponse(
                self._stream(path, with_logprobs=bool(body.get("logprobs"))), media_type="text/event-stream"
            )

        return app

    async def _stream(self, path: str, *, with_logprobs: bool) -> AsyncIterator[str]:
        self.num_open += 1
        try:
            if path == "chat/completions":
                yield _event({"delta": {"role": "assistant"}, "index": 0})
            for number, text in enumerate(self.texts):
                await asyncio.sleep(self.delay_s)
                if number == self.stop_after:
                    raise ConnectionResetError
                if number == self.error_after:
                    yield 'data: {"error": "out of memory"}\n\n'
                    return
                content = {"delta": {"content": text}} if path == "chat/completions" else {"text": text}
                logprobs: dict[str, Any] | None = None
                if with_logprobs and path == "chat/completions":
                    token = {"token": text, "logprob": -0.5 * number, "bytes": None, "top_logprobs": []}
                    logprobs = {"content": [token]}
                elif with_logprobs:
                    logprobs = {"tokens": [text], "token_logprobs": [-0.5 * number]}
                yield _event({**content, "index": 0, "finish_reason": None, "logprobs": logprobs})
            for call in self.tool_calls:
                yield _event({"delta": {"tool_calls": [call]}, "index": 0})
            num = len(self.texts)
            usage = {"prompt_tokens": 5, "completion_tokens": num, "total_tokens": 5 + num}
            yield _event({"delta": {}, "index": 0, "finish_reason": self.finish_reason}, usage=usage)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_open -= 1


def _event(choice: Mapping[str, Any], **more: Any) -> str:
    return f"data: {json.dumps({'id': 'x', 'choices': [choice], **more}, ensure_ascii=False)}\n\n"
