"""The chat page at /: static files, which call the API as any other client would.

Opens without a key, since a browser shows none when it opens a page; what the page then asks for needs one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

_FOLDER = Path(__file__).with_name("web")
_INDEX = "index.html"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    # Its own files and nothing else; Trusted Types refuse text that would become markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class WebPage:
    """The page's files, read once."""

    def __init__(self) -> None:
        self._files = {
            _path_of(file): (file.read_bytes(), _MEDIA_TYPES[file.suffix])
            for file in sorted(_FOLDER.iterdir())
            if file.suffix in _MEDIA_TYPES
        }

    @property
    def paths(self) -> frozenset[str]:
        """Where the files are; these paths, and none below them, need no key."""
        return frozenset(self._files)

    def routes(self) -> APIRouter:
        """Return the routes of the files; they are no part of the API and not in its description."""
        router = APIRouter(include_in_schema=False)
        for path, (content, media_type) in self._files.items():
            router.add_api_route(path, _sender(content, media_type), methods=["GET", "HEAD"])
        return router


def _path_of(file: Path) -> str:
    return "/" if file.name == _INDEX else f"/web/{file.name}"


def _sender(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return send
