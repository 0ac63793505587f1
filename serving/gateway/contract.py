"""What /openapi.json says beyond the requests that FastAPI reads from the routes: answers, errors and keys.

The routes build their answers as plain values, since validating each would cost more than making it; what they
look like is told here, and a fuzzer over this document holds the service to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

Schema = dict[str, Any]


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _exactly(text: str) -> Schema:
    return {"type": "string", "const": text}


_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ANY: Schema = {}
_USAGE: Schema = {"type": ["object", "null"]}
_ERROR = _object(
    {"error": _object({"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _MAYBE_TEXT})}
)
_MODEL = _object({"id": _TEXT, "object": _exactly("model"), "created": _COUNT, "owned_by": _TEXT})
_ANNOTATION = _object(
    {
        "type": _exactly("url_citation"),
        "url_citation": _object({"start_index": _COUNT, "end_index": _COUNT, "title": _TEXT, "url": _TEXT}),
    }
)
_MESSAGE = _object(
    {"role": _exactly("assistant"), "content": _MAYBE_TEXT},
    annotations=_list(_ANNOTATION),
    context={"type": "object"},
    tool_calls=_list(_ANY),
)
_HEAD = {"id": _TEXT, "created": _COUNT, "model": _TEXT, "usage": _USAGE}
_CHAT = _object(
    {
        **_HEAD,
        "object": _exactly("chat.completion"),
        "choices": _list(_object({"index": _COUNT, "message": _MESSAGE, "finish_reason": _TEXT})),
    },
    citations=_list(_ANY),
    search_results=_list(_ANY),
)
_COMPLETION = _object(
    {
        **_HEAD,
        "object": _exactly("text_completion"),
        "choices": _list(_object({"index": _COUNT, "text": _TEXT, "finish_reason": _TEXT})),
    }
)
_VECTOR: Schema = {"anyOf": [_list(_NUMBER), {"type": "string", "description": "base64 of float32"}]}
_EMBEDDINGS = _object(
    {
        "object": _exactly("list"),
        "model": _TEXT,
        "data": _list(_object({"object": _exactly("embedding"), "index": _COUNT, "embedding": _VECTOR})),
        "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
    }
)
_FOUND = _object(
    {
        "file_id": _TEXT,
        "filename": _TEXT,
        "score": _NUMBER,
        "attributes": {"type": "object"},
        "content": _list(_object({"type": _exactly("text"), "text": _TEXT})),
    }
)
_PAGE = _object(
    {
        "object": _exactly("vector_store.search_results.page"),
        "search_query": _list(_TEXT),
        "data": _list(_FOUND),
        "has_more": {"type": "boolean"},
        "next_page": _MAYBE_TEXT,
    }
)
_ROW = _object(
    dict.fromkeys(("row_id", "revision", "info_1", "info_2", "question", "answer", "source", "title"), _TEXT)
)
_READY = _object({"status": _TEXT, "engines": {"type": "object", "additionalProperties": _TEXT}})

_STREAM = {"text/event-stream": {"schema": {"description": "JSON events, `data: [DONE]` last"}}}
_ANSWERS: Mapping[str, tuple[Schema, Mapping[str, Any]]] = {
    "/v1/models": (_object({"object": _exactly("list"), "data": _list(_MODEL)}), {}),
    "/v1/models/{model_id}": (_MODEL, {}),
    "/v1/chat/completions": (_CHAT, _STREAM),
    "/v1/completions": (_COMPLETION, _STREAM),
    "/v1/embeddings": (_EMBEDDINGS, {}),
    "/v1/vector_stores/{kb_id}/search": (_PAGE, {}),
    "/kb/rows/{row_id}": (_ROW, {"text/html": {"schema": _TEXT}}),
    "/health/live": (_object({"status": _TEXT}), {}),
    "/health/ready": (_READY, {}),
}
_TOLD_BY_US = ("HTTPValidationError", "ValidationError")
_KEY = {"type": "http", "scheme": "bearer", "description": "`api-key` and `x-api-key` are read too."}


@dataclass(frozen=True)
class Contract:
    """What only this service can say of itself.

    Attributes:
        chat_ids: The models of /v1/chat/completions.
        completion_ids: Those of /v1/completions.
        embedding_id: The one of /v1/embeddings.
        kb_id: The vector store.
        public_paths: Beginnings of paths that need no key; None where nobody is asked for one.
    """

    chat_ids: tuple[str, ...]
    completion_ids: tuple[str, ...]
    embedding_id: str
    kb_id: str
    public_paths: tuple[str, ...] | None

    @property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The ids that `model` may have, by the schema of the request."""
        return {
            "ChatRequest": self.chat_ids,
            "CompletionRequest": self.completion_ids,
            "EmbeddingRequest": (self.embedding_id,),
        }


def install_contract(app: FastAPI, contract: Contract) -> None:
    """Have /openapi.json of `app` tell answers and errors, what is served, and where a key is asked for."""
    from_routes = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = from_routes()
            _complete(document, contract)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], contract: Contract) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    # FastAPI's own shape of an error, which this service never sends.
    for name in _TOLD_BY_US:
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    for name, ids in contract.models.items():
        if name in schemas:
            schemas[name]["properties"]["model"]["enum"] = list(ids)
    if contract.public_paths is not None:
        document["components"]["securitySchemes"] = {"key": _KEY}
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
            responses.pop("422", None)
            responses["4XX"] = {"description": "The request cannot be answered.", "content": failed}
            responses["5XX"] = {"description": "The engine does not answer.", "content": failed}
            if path == "/metrics":
                responses["200"]["content"] = {"text/plain": {"schema": _TEXT}}
            elif path in _ANSWERS:
                schema, others = _ANSWERS[path]
                responses["200"]["content"] = {"application/json": {"schema": schema}, **others}
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "kb_id":
                    parameter["schema"]["enum"] = [contract.kb_id]
            if contract.public_paths is not None and not path.startswith(contract.public_paths):
                operation["security"] = [{"key": []}]
