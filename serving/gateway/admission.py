"""Who gets in: keys, rates, the number of requests at once, and the size of a body. Rejects before any work.

A request is refused without reading its body where that is possible, so that a flood costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access.budgets import Budgets
from serving.access.keys import KeyRing
from serving.gateway.errors import ApiError, client_closed, error_response, too_many
from serving.gateway.record import RequestRecord, record_of
from serving.turns import Turns

_BEARER = "bearer "
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Access:
    """The keys that are asked for and what each has used.

    Attributes:
        public_paths: Beginnings of paths that need no key.
    """

    keys: KeyRing
    budgets: Budgets
    public_paths: tuple[str, ...] = ("/health/",)


class Admission:
    """Wraps the application; without `access` nobody is asked for a key."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access | None,
        max_requests: int,
        max_body_bytes: int,
        body_timeout_s: float,
        open_paths: Set[str] = frozenset(),
    ) -> None:
        """`max_requests` with a body are in the gateway at once, those that wait for an engine included.

        `open_paths` are whole paths that need no key, whatever `access` says.
        """
        self._app = app
        self._access = access
        self._max_requests = max_requests
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._open_paths = open_paths
        self._turns = Turns()
        self.num_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        has_place = False
        try:
            try:
                headers = {
                    name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
                }
                self._ask_for_key(record, headers)
                if scope["method"] not in _WITHOUT_BODY:
                    self._check_size(headers)
                    self._take_place()
                    has_place = True
                    await self._turns.mine()
                    receive = await self._with_body(receive)
            except ApiError as error:
                record.error = error.code
                await error_response(error)(scope, receive, send)
                return
            await self._app(scope, receive, send)
        finally:
            if has_place:
                self.num_inside -= 1

    def _ask_for_key(self, record: RequestRecord, headers: Mapping[str, str]) -> None:
        access = self._access
        if access is None or record.path in self._open_paths or record.path.startswith(access.public_paths):
            return
        presented = _presented_key(headers)
        record.key = access.keys.find(presented) if presented else None
        if record.key is None:
            told = (
                "this API key is not valid"
                if presented
                else "an API key is needed: `Authorization: Bearer KEY`"
            )
            raise ApiError(
                HTTPStatus.UNAUTHORIZED, told, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )
        if wait_s := access.budgets.wait_s(record.key):
            told = f"more than {record.key.requests_per_minute} requests in a minute with this key"
            raise too_many(told, wait_s, "rate_limit_exceeded")

    def _check_size(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise self._too_large()

    def _take_place(self) -> None:
        if self.num_inside >= self._max_requests:
            told = f"{self._max_requests} requests are being answered already; try again"
            raise too_many(told, 1, "overloaded")
        self.num_inside += 1

    async def _with_body(self, receive: Receive) -> Receive:
        """Read the whole body; returns a `receive` that brings it and then whatever comes after it."""
        parts: list[bytes] = []
        size_bytes = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise client_closed()
                    part = message.get("body", b"")
                    size_bytes += len(part)
                    if size_bytes > self._max_body_bytes:
                        raise self._too_large()
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            told = f"the request's body did not come within {self._body_timeout_s:g} s"
            raise ApiError(
                HTTPStatus.REQUEST_TIMEOUT, told, code="body_timeout", headers={"Connection": "close"}
            ) from None
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def receive_again() -> Message:
            nonlocal body
            if body is not None:
                first, body = body, None
                return first
            return await receive()

        return receive_again

    def _too_large(self) -> ApiError:
        told = f"the request's body is larger than {self._max_body_bytes} bytes"
        # What is left of it will not be read.
        return ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            told,
            code="body_too_large",
            headers={"Connection": "close"},
        )


def _presented_key(headers: Mapping[str, str]) -> str:
    """Return the key, as OpenAI's clients send it, or as Azure's and Anthropic's do."""
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get("api-key", "") or headers.get("x-api-key", "")
