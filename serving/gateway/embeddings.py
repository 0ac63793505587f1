"""/v1/embeddings: the model that the index was made with."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from serving.gateway.errors import bad_request, model_not_found
from serving.gateway.events import while_connected
from serving.gateway.schema import EmbeddingRequest

if TYPE_CHECKING:
    from rag.knowledge import KnowledgeIndex


def embedding_routes(knowledge: KnowledgeIndex, embedding_id: str, timeout_s: float) -> APIRouter:
    """Return /v1/embeddings; `timeout_s` is the longest that one request may take."""
    router = APIRouter(prefix="/v1")

    @router.post("/embeddings")
    async def embeddings(body: EmbeddingRequest, request: Request) -> dict[str, Any]:
        if body.model != embedding_id:
            raise model_not_found(body.model, (embedding_id,))
        if not all(body.texts):
            raise bad_request("input: an empty text has no embedding; leave it out", "input")
        work = asyncio.to_thread(knowledge.embed, body.texts, body.input_type)
        vectors = await while_connected(request.scope, request.receive, work, timeout_s)
        if body.dimensions not in (None, len(vectors[0])):
            raise bad_request(f"dimensions: this model has {len(vectors[0])}; leave it out", "dimensions")
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        # The embedding library does not tell how many tokens it read.
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return {"object": "list", "model": embedding_id, "data": data, "usage": usage}

    return router


def _encoded(vector: list[float], form: str) -> list[float] | str:
    """Return the vector as numbers, or as OpenAI's clients ask by default: base64 of little-endian float32."""
    if form == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
