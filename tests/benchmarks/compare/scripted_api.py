"""An OpenAI-like server whose models answer as a table says; some of them cite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

Answerer = Callable[[str], "tuple[str, Mapping[str, Any] | None]"]


class ScriptedApi:
    """`models` gives for a question the text and the gateway's `context`; None for a model that cites nothing.

    `requests` is what was asked: (model, question); `bodies` all of it. From request `fail_from` on, every one gets
    a 400.
    """

    def __init__(self, models: Mapping[str, Answerer]) -> None:
        self.models = models
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.fail_from: int | None = None

    @property
    def app(self) -> FastAPI:
        """The server."""
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def answer(request: Request) -> Response:
            body = await request.json()
            question = body["messages"][-1]["content"]
            self.requests.append((body["model"], question))
            self.bodies.append(body)
            if self.fail_from is not None and len(self.requests) > self.fail_from:
                return JSONResponse({"error": {"message": "out of order"}}, 400)
            text, context = self.models[body["model"]](question)
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if context is not None:
                marks = [passage["url"] for passage in context["citations"][:1]]
                message["annotations"] = [
                    {
                        "type": "url_citation",
                        "url_citation": {"url": url, "title": "", "start_index": 0, "end_index": 0},
                    }
                    for url in marks
                ]
                message["context"] = context
            usage = {"prompt_tokens": 10, "completion_tokens": len(text), "total_tokens": 10 + len(text)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse(
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [choice],
                    "usage": usage,
                }
            )

        return app
