"""/kb/rows/{row_id}: what a citation links to. JSON for programs, a small page for people."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from http import HTTPStatus
from string import Template
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from data.records import Row
from serving.gateway.errors import ApiError

if TYPE_CHECKING:
    from rag.knowledge import KnowledgeIndex

_PAGE = Template("""<!doctype html>
<html lang="und">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 1rem/1.7 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
p { white-space: pre-wrap } footer { color: #666; font-size: .85rem }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } footer { color: #999 } }
</style>
<h1>$question</h1>
<p>$answer</p>
<footer>$path<br>$source · $row_id</footer>
</html>
""")


def row_routes(knowledge: KnowledgeIndex) -> APIRouter:
    """Return /kb/rows/{row_id}."""
    router = APIRouter(prefix="/kb/rows")

    @router.get("/{row_id}")
    async def row(row_id: str, request: Request) -> Response:
        found = knowledge.row(row_id)
        if found is None:
            message = f"no row {row_id!r} in the knowledge base, version {knowledge.version}"
            raise ApiError(HTTPStatus.NOT_FOUND, message, param="row_id", code="row_not_found")
        headers = {"Vary": "Accept"}
        if prefers_html(request.headers.get("accept", "")):
            return HTMLResponse(_page(found), headers=headers)
        return JSONResponse({**asdict(found), "title": found.title}, headers=headers)

    return router


def prefers_html(accept: str) -> bool:
    """Tell whether an Accept header ranks HTML above JSON, as browsers' do."""
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """Return the weight of a media type: its own, or else that of a wildcard that covers it."""
    weights: dict[str, float] = {}
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            weights[name] = float(quality)
        except ValueError:
            weights[name] = 0.0
    for name in (f"{kind}/{subtype}", f"{kind}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0


def _page(row: Row) -> str:
    cells = {
        "title": row.title,
        "question": row.question,
        "answer": row.answer,
        "path": " · ".join(part for part in (row.info_1, row.info_2) if part),
        "source": row.source,
        "row_id": row.row_id,
    }
    return _PAGE.substitute({name: escape(text) for name, text in cells.items()})
