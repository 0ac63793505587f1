"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`, every one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from data.errors import InputError


class ApiError(Exception):
    """A request that ends in an error, with what the client is told."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        """`param` names the request field at fault; `code` is for programs."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

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


def engine_down(name: str, reason: str) -> ApiError:
    """Return the 503 of an engine that cannot be reached or died."""
    message = f"engine {name!r} is not available: {reason}"
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="engine_unavailable")


def engine_silent(name: str, timeout_s: float) -> ApiError:
    """Return the 504 of an engine that said nothing for too long."""
    message = f"engine {name!r} sent nothing for {timeout_s:g} s"
    return ApiError(HTTPStatus.GATEWAY_TIMEOUT, message, code="engine_timeout")


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of `app`, those of unknown routes and of defects included, OpenAI's shape."""

    async def on_api_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return _response(error)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return _response(ApiError(error.status_code, message), error.headers)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _response(_invalid(error.errors()))

    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        return _response(
            ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error ({type(error).__name__})")
        )

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_defect)


def _response(error: ApiError, headers: Any = None) -> JSONResponse:
    return JSONResponse(error.body, error.status, headers=headers)


def _invalid(faults: Sequence[Any]) -> ApiError:
    """Return one 400 that tells all faults of a body; `param` is the first."""
    told, first = [], None
    for fault in faults:
        # The location begins with "body"; names of union members in it would only puzzle.
        path = ".".join(str(part) for part in fault["loc"][1:])
        first = first or path or None
        told.append(f"{path}: {fault['msg']}" if path else str(fault["msg"]))
    return bad_request("; ".join(dict.fromkeys(told)), param=first, code="invalid_value")
