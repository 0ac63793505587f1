"""The gateway's outermost layer: an id for each request, headers for each response, a record for log and metrics.

Around everything, not as one of FastAPI's middlewares: those do not see the answer to an error that nobody
caught.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.clock import Clock
from serving.gateway.errors import CLIENT_CLOSED_REQUEST
from serving.gateway.record import RequestRecord, attach_record

Observer = Callable[[RequestRecord], None]
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # A row's page has a style of its own and needs nothing else.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Edge:
    """Wraps the application; `observers` get every request's record once, when it is over."""

    def __init__(
        self, app: ASGIApp, *, clock: Clock, headers: Mapping[str, str], observers: Sequence[Observer]
    ) -> None:
        """`headers` go on every response, in addition to those that keep browsers from doing harm."""
        self._app = app
        self._clock = clock
        self._observers = observers
        self._headers = [
            (name.lower().encode(), value.encode())
            for name, value in {**_SECURITY_HEADERS, **headers}.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = self._begin(scope)
        attach_record(scope, record)
        own = [(b"x-request-id", record.request_id.encode()), *self._headers]

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                added = [header for header in own if header[0] not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            record.error = record.error or "internal_error"
            raise
        finally:
            record.ended_s = self._clock.elapsed_s()
            if not record.status:
                record.status = (
                    CLIENT_CLOSED_REQUEST
                    if record.error in (None, "client_closed")
                    else HTTPStatus.INTERNAL_SERVER_ERROR
                )
            for observe in self._observers:
                observe(record)

    def _begin(self, scope: Scope) -> RequestRecord:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if _ACCEPTED_ID.fullmatch(given) else f"req_{token_hex(12)}"
        client = scope.get("client")
        return RequestRecord(
            clock=self._clock,
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            client=client[0] if client else "",
            started_s=self._clock.elapsed_s(),
        )
