"""Keeps requests within what an engine can hold: one that does not fit may end the engine, not only itself.

A text never has more tokens than bytes, so that most requests are known to fit without counting. Only a long
one is counted, with the model's own tokenizer, where its folder has one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.engines.engine import Engine
from serving.gateway.errors import bad_request

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A chat template's marks around a message; its tool instructions, or its own system prompt.
_TOKENS_AROUND_MESSAGE = 16
_TOKENS_AROUND_PROMPT = 64
_TOKENS_AROUND_TOOLS = 512


class PromptMeter:
    """Counts prompts; reads an engine's tokenizer when the first long prompt comes."""

    def __init__(self) -> None:
        self._tokenizers: dict[str, Tokenizer] = {}

    async def fit(
        self, engine: Engine, body: Mapping[str, Any], room_wanted: int | None, default: int
    ) -> int:
        """Return the length that the answer to `body` may have: `room_wanted`, or up to `default`.

        Raises:
            ApiError: 400, prompt and answer together are longer than the engine's context.
        """
        context = engine.context_tokens
        if context is None:
            return room_wanted or default
        text, around = _content(body)
        prompt = len(text.encode()) + around
        if prompt + (room_wanted or default) > context and engine.tokenizer is not None:
            prompt = await asyncio.to_thread(self._count, engine, text) + around
        wanted = room_wanted or max(1, min(default, context - prompt))
        if prompt + wanted > context:
            raise bad_request(
                f"the prompt has about {prompt} tokens; with {wanted} for the answer it does not fit the model's "
                f"context of {context}; shorten the conversation or lower max_tokens",
                "messages" if "messages" in body else "prompt",
                "context_length_exceeded",
            )
        return wanted

    def _count(self, engine: Engine, text: str) -> int:
        from tokenizers import Tokenizer

        if engine.name not in self._tokenizers:
            self._tokenizers[engine.name] = Tokenizer.from_file(str(engine.tokenizer))
        return len(self._tokenizers[engine.name].encode(text, add_special_tokens=False))


def _content(body: Mapping[str, Any]) -> tuple[str, int]:
    """Return all text of a request, and how many tokens the template may put around it."""
    if "prompt" in body:
        return str(body["prompt"]), _TOKENS_AROUND_PROMPT
    messages = body["messages"]
    around = _TOKENS_AROUND_PROMPT + _TOKENS_AROUND_MESSAGE * len(messages)
    # A message may carry more than content: the calls of tools and their arguments.
    texts = [
        str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for message in messages
        for value in message.values()
    ]
    if body.get("tools"):
        texts.append(json.dumps(body["tools"], ensure_ascii=False))
        around += _TOKENS_AROUND_TOOLS
    return "\n".join(texts), around
