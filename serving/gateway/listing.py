"""/v1/models: what may be asked for. `groundtune` in a card tells models that chat from those that embed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from serving.gateway.errors import model_not_found
from serving.gateway.parts import Gateway


def listing_routes(gateway: Gateway) -> APIRouter:
    """Return /v1/models and /v1/models/{id}; the embedding model is among them when there is an index."""
    router = APIRouter(prefix="/v1/models")
    created = int(gateway.clock.now_s())
    embeddings = (gateway.settings.embedding_id,) if gateway.knowledge is not None else ()
    grounded = {model.model_id for model in gateway.models if model.grounded}
    ids = (*gateway.models.ids, *embeddings)

    def card(model_id: str) -> dict[str, Any]:
        kind = "embedding" if model_id in embeddings else "chat"
        about = {"kind": kind, "grounded": model_id in grounded}
        return {
            "id": model_id,
            "object": "model",
            "created": created,
            "owned_by": "groundtune",
            "groundtune": about,
        }

    @router.get("")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card(model_id) for model_id in ids]}

    @router.get("/{model_id:path}")
    async def model(model_id: str) -> dict[str, Any]:
        if model_id not in ids:
            raise model_not_found(model_id, ids)
        return card(model_id)

    return router
