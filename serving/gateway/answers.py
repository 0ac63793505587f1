"""OpenAI's two forms of an answer, whole and streamed, for chat and for plain completions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from serving.gateway.asking import Begun
from serving.gateway.events import Events
from serving.gateway.relay import End, Extra, LogProbs, Pieces, Text
from serving.gateway.sse import TextLines, event_line

PieceSource = Pieces | Begun


@dataclass(frozen=True)
class AnswerHead:
    """What every part of one answer repeats; `created` in whole seconds since 1970."""

    answer_id: str
    model: str
    created: int

    @property
    def mark(self) -> str:
        """A text that no answer has and no other field of the answer."""
        return f"{self.answer_id}-text"

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

    texts = TextLines(chunk({"content": head.mark}), head.mark)
    held = [event_line(chunk({"role": "assistant", "content": ""}))]
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                held.append(texts.line(piece.text))
                if piece.more:
                    continue
            elif isinstance(piece, Extra):
                held.append(event_line(chunk({"content": "", **piece.fields}, **piece.top_level)))
            elif isinstance(piece, LogProbs):
                held.append(event_line(chunk({"content": ""}, logprobs=piece.lists)))
            else:
                held.append(event_line(chunk({}, piece.finish_reason)))
                if include_usage:
                    held.append(event_line(head.part("chat.completion.chunk", [], usage=piece.usage)))
            yield b"".join(held)
            held.clear()


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

    texts = TextLines(chunk(head.mark), head.mark)
    held: list[bytes] = []
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                held.append(texts.line(piece.text))
                if piece.more:
                    continue
            elif isinstance(piece, LogProbs):
                held.append(event_line(chunk("", logprobs=piece.lists)))
            elif isinstance(piece, End):
                held.append(event_line(chunk("", piece.finish_reason)))
                if include_usage:
                    held.append(event_line(head.part("text_completion", [], usage=piece.usage)))
            if held:
                yield b"".join(held)
                held.clear()


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
