"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`, every one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from data.errors import InputError, ServiceError
from serving.gateway.record import record_of

# nginx's number for it.
CLIENT_CLOSED_REQUEST = 499


class ApiError(Exception):
    """A request that ends in an error, with what the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param` names the request field at fault; `code` is for programs; `headers` go on the response."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that the client receives."""
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


@contextmanager
def filter_faults() -> Iterator[None]:
    """Turn an InputError of the block, a filter that leaves no row, into a 400."""
    try:
        yield
    except InputError as error:
        raise bad_request(str(error), "groundtune.filter", "invalid_value") from error


def model_not_found(model_id: str, known: Sequence[str]) -> ApiError:
    """Return the 404 of a model that is not served."""
    message = f"the model {model_id!r} is not served here; served: {', '.join(known)}"
    return ApiError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")


def too_many(message: str, wait_s: int, code: str) -> ApiError:
    """Return a 429; `wait_s` is when to try again."""
    return ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code=code, headers={"Retry-After": str(wait_s)})


def client_closed() -> ApiError:
    """Return what ends the work for a client that has gone; nobody reads it, but the log shows it."""
    return ApiError(CLIENT_CLOSED_REQUEST, "the client closed the connection", code="client_closed")


def request_too_long() -> ApiError:
    """Return the 504 of a request that took longer than any may."""
    return ApiError(
        HTTPStatus.GATEWAY_TIMEOUT, "the answer was not complete in the time allowed", code="request_timeout"
    )


def engine_down(name: str, reason: str, retry_after_s: int | None = None) -> ApiError:
    """Return the 503 of an engine that cannot be reached or died."""
    message = f"engine {name!r} is not available: {reason}"
    headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="engine_unavailable", headers=headers)


def engine_silent(name: str, timeout_s: float) -> ApiError:
    """Return the 504 of an engine that said nothing for too long."""
    message = f"engine {name!r} sent nothing for {timeout_s:g} s"
    return ApiError(HTTPStatus.GATEWAY_TIMEOUT, message, code="engine_timeout")


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of `app`, those of unknown routes and of defects included, OpenAI's shape."""

    async def on_api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        record_of(request.scope).error = error.code
        return error_response(error)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return error_response(ApiError(error.status_code, message, headers=error.headers))

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid(error.errors()))

    async def on_service(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        record_of(request.scope).error = error.code
        return error_response(ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code=error.code))

    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        return error_response(
            ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error ({type(error).__name__})")
        )

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ServiceError, on_service)
    app.add_exception_handler(Exception, on_defect)


def error_response(error: ApiError) -> JSONResponse:
    """Return the response that carries the error."""
    return JSONResponse(error.body, error.status, headers=error.headers)


def _invalid(faults: Sequence[Any]) -> ApiError:
    """Return one 400 that tells all faults of a body; `param` is the first."""
    told, first = [], None
    for fault in faults:
        # The location begins with "body"; names of union members in it would only puzzle.
        path = ".".join(str(part) for part in fault["loc"][1:])
        first = first or path or None
        told.append(f"{path}: {fault['msg']}" if path else str(fault["msg"]))
    return bad_request("; ".join(dict.fromkeys(told)), param=first, code="invalid_value")
