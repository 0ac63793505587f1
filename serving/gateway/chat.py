"""/v1/chat/completions: from a request to an engine's answer, grounded in rows or not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serving.gateway.answers import AnswerHead, chat_events, whole_chat
from serving.gateway.asking import Question, asked, begun
from serving.gateway.citing import cited, refused, word_for_word
from serving.gateway.errors import bad_request, filter_faults
from serving.gateway.events import EventStream, while_connected
from serving.gateway.models import ServedModel
from serving.gateway.parts import Gateway
from serving.gateway.record import RequestRecord, record_of
from serving.gateway.relay import Pieces
from serving.gateway.schema import ChatRequest

if TYPE_CHECKING:
    from rag.grounding import Grounding
    from rag.stale import Stale

_PATH = "chat/completions"
Messages = Sequence[Mapping[str, Any]]


def chat_routes(gateway: Gateway) -> APIRouter:
    """Return /v1/chat/completions."""
    router = APIRouter(prefix="/v1")

    @router.post("/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        record = record_of(request.scope)
        model = gateway.models.find(body.model)
        record.model = model.model_id
        if gateway.settings.log_prompts:
            record.prompt = [message.as_sent() for message in body.messages]
        fields, without_effect = body.fields_for(model.engine, gateway.settings.temperature)
        answering = _answering(gateway, model, body, fields, record, gateway.base_url(request))
        # Without rows to search there is nothing to wait for yet, and watching the client would cost two tasks.
        pieces = (
            await while_connected(request.scope, request.receive, answering, gateway.left_s(record))
            if model.grounded or gateway.stale is not None
            else await answering
        )
        head = AnswerHead(f"chatcmpl-{uuid4().hex}", body.model, int(gateway.clock.now_s()))
        if body.stream:
            source = await begun(request.scope, request.receive, pieces, gateway.left_s(record))
            events = chat_events(head, source, body.include_usage)
            return EventStream(events, source, record.headers(without_effect), gateway.left_s(record))
        whole = await while_connected(
            request.scope, request.receive, whole_chat(head, pieces), gateway.left_s(record)
        )
        record.mark("total")
        return JSONResponse(whole, headers=record.headers(without_effect))

    return router


async def _answering(
    gateway: Gateway,
    model: ServedModel,
    body: ChatRequest,
    fields: Mapping[str, Any],
    record: RequestRecord,
    base_url: str,
) -> Pieces:
    """Return the answer's pieces to come; for a grounded model the rows are searched first."""
    messages: Messages = [message.as_sent() for message in body.messages]
    only = body.groundtune.row_filter if body.groundtune else None
    grounding, stale = await _stale_grounding(gateway, model, body, fields, messages)
    if (not model.grounded and stale is None) or gateway.grounder is None:
        if only is not None:
            raise bad_request(
                f"groundtune.filter: the model {body.model!r} is not grounded", "groundtune.filter"
            )
        messages = with_system_prompt(messages, gateway.settings.system_prompt)
        sent = {**fields, "messages": list(messages)}
        return asked(gateway, model.engine, Question(_PATH, sent, body.length, body.stops), record)
    if "tools" in fields:
        raise bad_request(f"tools: not supported by the grounded model {body.model!r}; leave it out", "tools")
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    if not question.strip():
        raise bad_request("messages: a grounded model needs a user message with text", "messages")
    if grounding is None:
        with filter_faults():
            grounding = await asyncio.to_thread(gateway.grounder.ground, messages, only)
    record.marks.update(grounding.timings_ms)
    if grounding.refusal is not None:
        record.is_refusal = True
        _keep(gateway, question, grounding, "refused")
        return refused(grounding, grounding.refusal, base_url, stale)
    # A client's stop strings and log-probabilities are about the model's own text.
    may_add = not body.stops and not fields.get("logprobs")
    if grounding.verbatim is not None and may_add and _fits(grounding, grounding.verbatim, body.length):
        return word_for_word(grounding, grounding.verbatim, base_url, stale)
    sent = {**fields, "messages": list(grounding.messages)}
    pieces = asked(gateway, model.engine, Question(_PATH, sent, body.length, body.stops), record)
    return cited(
        pieces,
        grounding,
        question,
        base_url,
        may_add=may_add,
        stale=stale,
        on_declined=lambda: _keep(gateway, question, grounding, "declined"),
    )


async def _stale_grounding(
    gateway: Gateway, model: ServedModel, body: ChatRequest, fields: Mapping[str, Any], messages: Messages
) -> tuple[Grounding | None, Stale | None]:
    """Return the rows to answer from and why, where a plain tuned model is asked about a row that has changed.

    (None, None) where it is not: another model, a question without text, tools, or the client wants its own answer.
    """
    guard, grounder = gateway.stale, gateway.grounder
    wanted = body.groundtune is None or (body.groundtune.ground_stale and body.groundtune.filter is None)
    is_learner = model.engine.name == "tuned" and not model.grounded
    if guard is None or grounder is None or not is_learner or not wanted or "tools" in fields:
        return None, None
    question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    if not question.strip():
        return None, None

    def find() -> tuple[Grounding, Stale | None]:
        found = grounder.ground(messages)
        return found, guard.match(found)

    grounding, stale = await asyncio.to_thread(find)
    return (grounding, stale) if stale is not None else (None, None)


def _keep(gateway: Gateway, question: str, grounding: Grounding, reason: str) -> None:
    """Keep a question without an answer, where that was chosen. A full disk is no reason to answer with an error."""
    if gateway.unanswered is None:
        return
    try:
        gateway.unanswered.keep(question, grounding.searched, reason, grounding.nearest, grounding.kb_version)
    except OSError as error:
        print(f"unanswered question not kept: {error}", file=sys.stderr)


def _fits(grounding: Grounding, place: int, max_tokens: int | None) -> bool:
    """Tell whether a row's answer is sure to fit: a character is a token at the most."""
    return max_tokens is None or len(grounding.rows[place].answer) < max_tokens


def with_system_prompt(messages: Messages, prompt: str) -> Messages:
    """Return the messages with the knowledge base's system prompt, where the client sent none of its own."""
    if not prompt or any(message["role"] == "system" for message in messages):
        return messages
    return [{"role": "system", "content": prompt}, *messages]
