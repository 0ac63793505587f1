"""A chat API that quotes what it is asked about, after its own fashion, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response


class ScriptedModel:
    """Answers each prompt with a pair a line of its material.

    `asked` counts the prompts. `replies` are given first, in order, in place of answers; an int is a status.
    """

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.replies: list[str | int] = []
        self.delay_s = delay_s

    @property
    def app(self) -> FastAPI:
        """The server."""
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {
                "object": "list",
                "data": [{"id": "base", "object": "model", "created": 0, "owned_by": "x"}],
            }

        @app.post("/v1/chat/completions")
        async def answer(request: Request) -> Response:
            prompt = (await request.json())["messages"][-1]["content"]
            self.asked[prompt] += 1
            await asyncio.sleep(self.delay_s)
            reply = self.replies.pop(0) if self.replies else quoting(prompt)
            if isinstance(reply, int):
                return JSONResponse({"error": {"message": "out of order"}}, reply)
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answered = {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "base",
                "choices": [choice],
            }
            return JSONResponse(answered)

        return app


def quoting(prompt: str) -> str:
    """Return a pair for each sentence of the material, and one that it does not support."""
    material = prompt.split("\n\n请根据")[0].partition("：\n")[2]
    sentences = [text for text in re.split(r"(?<=。)|\n", material) if len(text) > 8]
    pairs = [f"问：{text[:12]}是什么情况？\n答：{text}" for text in sentences]
    return "\n".join([*pairs, "问：月球离地球有多远？\n答：月球距离地球约三十八万公里。"])
