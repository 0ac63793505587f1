"""/v1/vector_stores/{kb}/search: the rows nearest to a question, in the shape of OpenAI's vector stores."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from serving.gateway.citing import row_url
from serving.gateway.errors import ApiError, filter_faults
from serving.gateway.events import while_connected
from serving.gateway.parts import Gateway
from serving.gateway.schema import SearchRequest

if TYPE_CHECKING:
    from rag.knowledge import KnowledgeIndex
    from rag.stages import Hit


def search_routes(gateway: Gateway, knowledge: KnowledgeIndex) -> APIRouter:
    """Return the search route of the one knowledge base."""
    router = APIRouter(prefix="/v1/vector_stores")

    @router.post("/{kb_id}/search")
    async def search(kb_id: str, body: SearchRequest, request: Request) -> dict[str, Any]:
        if kb_id != gateway.settings.kb_id:
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"no vector store {kb_id!r}; there is {gateway.settings.kb_id!r}",
                param="vector_store_id",
                code="vector_store_not_found",
            )

        only = body.groundtune.row_filter if body.groundtune else None

        def find() -> list[Hit]:
            """Search for every question; a row that several find counts with its best score."""
            best: dict[str, Hit] = {}
            for query in body.queries:
                for hit in knowledge.search(query, body.max_num_results, only).hits:
                    known = best.get(hit.row.row_id)
                    if known is None or hit.score > known.score:
                        best[hit.row.row_id] = hit
            return sorted(best.values(), key=lambda hit: -hit.score)[: body.max_num_results]

        limit_s = gateway.settings.request_timeout_s
        with filter_faults():
            hits = await while_connected(request.scope, request.receive, asyncio.to_thread(find), limit_s)
        base_url = gateway.base_url(request)
        return {
            "object": "vector_store.search_results.page",
            "search_query": list(body.queries),
            "data": [_result(hit, base_url) for hit in hits],
            "has_more": False,
            "next_page": None,
        }

    return router


def _result(hit: Hit, base_url: str) -> dict[str, Any]:
    row = hit.row
    attributes = {"info_1": row.info_1, "info_2": row.info_2, "question": row.question}
    return {
        "file_id": row.row_id,
        "filename": row.source,
        "score": hit.score,
        "attributes": {**attributes, "url": row_url(base_url, row.row_id)},
        "content": [{"type": "text", "text": row.answer}],
    }
