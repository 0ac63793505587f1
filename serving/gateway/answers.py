"""OpenAI's two forms of an answer, whole and streamed, for chat and for plain completions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from serving.gateway.asking import Begun
from serving.gateway.events import Events
from serving.gateway.relay import End, Extra, LogProbs, Pieces, Text

PieceSource = Pieces | Begun


@dataclass(frozen=True)
class AnswerHead:
    """What every part of one answer repeats; `created` in whole seconds since 1970."""

    answer_id: str
    model: str
    created: int

    def part(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return one JSON object of the API."""
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }


async def whole_chat(head: AnswerHead, pieces: PieceSource) -> dict[str, Any]:
    """Return the answer as one `chat.completion`."""
    texts: list[str] = []
    message: dict[str, Any] = {"role": "assistant", "content": None}
    top_level: dict[str, Any] = {}
    logprobs: dict[str, Any] = {}
    end = End("stop", None)
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                texts.append(piece.text)
            elif isinstance(piece, Extra):
                _merge(message, piece.fields)
                top_level.update(piece.top_level)
            elif isinstance(piece, LogProbs):
                _extend(logprobs, piece.lists)
            else:
                end = piece
    # A message of nothing but tool calls has no content.
    message["content"] = "".join(texts) if texts or "tool_calls" not in message else None
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs or None,
        "finish_reason": end.finish_reason,
    }
    return head.part("chat.completion", [choice], usage=end.usage, **top_level)


async def chat_events(head: AnswerHead, pieces: PieceSource, include_usage: bool) -> Events:
    """Yield the answer as `chat.completion.chunk`s, the role first."""

    def chunk(
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        # OpenAI: with include_usage every chunk has the field, and only the last one a value.
        usage = {"usage": None} if include_usage else {}
        return head.part("chat.completion.chunk", [choice], **usage, **more)

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                yield chunk({"content": piece.text})
            elif isinstance(piece, Extra):
                yield chunk({"content": "", **piece.fields}, **piece.top_level)
            elif isinstance(piece, LogProbs):
                yield chunk({"content": ""}, logprobs=piece.lists)
            else:
                yield chunk({}, piece.finish_reason)
                if include_usage:
                    yield head.part("chat.completion.chunk", [], usage=piece.usage)


async def whole_completion(head: AnswerHead, pieces: PieceSource) -> dict[str, Any]:
    """Return the answer as one `text_completion`."""
    texts: list[str] = []
    logprobs: dict[str, Any] = {}
    end = End("stop", None)
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                texts.append(piece.text)
            elif isinstance(piece, LogProbs):
                _extend(logprobs, piece.lists)
            elif isinstance(piece, End):
                end = piece
    choice = {
        "index": 0,
        "text": "".join(texts),
        "logprobs": logprobs or None,
        "finish_reason": end.finish_reason,
    }
    return head.part("text_completion", [choice], usage=end.usage)


async def completion_events(head: AnswerHead, pieces: PieceSource, include_usage: bool) -> Events:
    """Yield the answer as streamed `text_completion`s."""

    def chunk(
        text: str, finish_reason: str | None = None, logprobs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        return head.part("text_completion", [choice], **({"usage": None} if include_usage else {}))

    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                yield chunk(piece.text)
            elif isinstance(piece, LogProbs):
                yield chunk("", logprobs=piece.lists)
            elif isinstance(piece, End):
                yield chunk("", piece.finish_reason)
                if include_usage:
                    yield head.part("text_completion", [], usage=piece.usage)


def _extend(lists: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Append a streamed part's log-probabilities, list by list ("content"; "tokens", "token_logprobs", ...)."""
    for name, value in more.items():
        if isinstance(value, list):
            lists[name] = [*lists.get(name, ()), *value]
        else:
            lists.setdefault(name, value)


def _merge(message: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add a streamed piece's fields to a message: tool calls by their index, text joined, others as they are."""
    for name, value in fields.items():
        if name == "tool_calls":
            for call in value:
                _merge_call(message.setdefault("tool_calls", []), call)
        elif isinstance(value, str) and isinstance(message.get(name), str):
            message[name] += value
        else:
            message[name] = value


def _merge_call(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    index = piece.get("index", len(calls))
    function = piece.get("function") or {}
    if index < len(calls):
        known = calls[index]["function"]
        known["arguments"] = known.get("arguments", "") + function.get("arguments", "")
    else:
        calls.append({**{k: v for k, v in piece.items() if k != "index"}, "function": dict(function)})
