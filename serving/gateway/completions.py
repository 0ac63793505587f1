"""/v1/completions: a prompt as it is, without a chat template, for the ungrounded models."""

from __future__ import annotations

from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serving.gateway.answers import AnswerHead, completion_events, whole_completion
from serving.gateway.asking import Question, asked, begun
from serving.gateway.errors import bad_request
from serving.gateway.events import EventStream, while_connected
from serving.gateway.parts import Gateway
from serving.gateway.record import record_of
from serving.gateway.schema import CompletionRequest


def completion_routes(gateway: Gateway) -> APIRouter:
    """Return /v1/completions."""
    router = APIRouter(prefix="/v1")

    @router.post("/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        record = record_of(request.scope)
        model = gateway.models.find(body.model)
        record.model = model.model_id
        if gateway.settings.log_prompts:
            record.prompt = body.text
        if model.grounded:
            raise bad_request(
                f"the grounded model {body.model!r} answers on /v1/chat/completions only", "model"
            )
        fields, without_effect = body.fields_for(model.engine, gateway.settings.temperature)
        question = Question("completions", {**fields, "prompt": body.text}, body.max_tokens, body.stops)
        pieces = asked(gateway, model.engine, question, record)
        head = AnswerHead(f"cmpl-{uuid4().hex}", body.model, int(gateway.clock.now_s()))
        if body.stream:
            source = await begun(request.scope, request.receive, pieces, gateway.left_s(record))
            events = completion_events(head, source, body.include_usage)
            return EventStream(events, source, record.headers(without_effect), gateway.left_s(record))
        whole = await while_connected(
            request.scope, request.receive, whole_completion(head, pieces), gateway.left_s(record)
        )
        record.mark("total")
        return JSONResponse(whole, headers=record.headers(without_effect))

    return router
