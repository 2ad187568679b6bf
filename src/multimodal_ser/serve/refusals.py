"""An error in a request → its status code, and a body that says what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from multimodal_ser.errors import SerError

CODES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "foreign_origin",
    404: "not_found",
    405: "method_not_allowed",
    408: "upload_timeout",
    413: "too_large",
    415: "unsupported_media_type",
    421: "foreign_host",
    422: "unreadable",
    429: "too_many_requests",
    499: "client_left",
    500: "internal_error",
    503: "stopping",
    504: "deadline",
    507: "no_room",
}


_WORD = {"type": "string"}
REFUSAL: dict[str, Any] = {  # what `refusal` gives, for the API's description
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {**_WORD, "enum": [*CODES.values()]}, "message": _WORD},
        }
    },
}


class RefusedError(SerError):
    """A request that is not answered; the message says what was given, allowed, and the remedy.

    Attributes:
        status: HTTP status code.
        headers: extra response headers, such as ``Retry-After``.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def refusal(status: int, message: str) -> dict[str, dict[str, str]]:
    """The JSON body that all errors have."""
    return {"error": {"code": CODES.get(status, "error"), "message": message}}


def body(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as a response."""
    return JSONResponse(refusal(status, message), status, headers=dict(headers or {}))


def refuse_unknown(request: Request) -> None:
    """Refuses parameters that a route does not have, or has twice: one would have no effect.

    Raises:
        RefusedError: 422.
    """
    route = request.scope["route"]
    allowed = [one.alias for one in route.dependant.query_params]
    for name in request.query_params:
        if name not in allowed:
            raise RefusedError(
                422, f"unknown parameter {name[:40]!r}; allowed: {', '.join(allowed)}"
            )
        if len(values := request.query_params.getlist(name)) > 1:
            raise RefusedError(422, f"{name} is given {len(values)} times; allowed: once")


def add_handlers(app: FastAPI) -> None:
    """Makes all errors of an application respond with the same JSON body."""

    @app.exception_handler(SerError)
    async def own_error(request: Request, error: SerError) -> JSONResponse:
        if isinstance(error, RefusedError):
            return body(error.status, str(error), error.headers)
        return body(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        return body(422, f"{wrong}; see /docs for what is allowed")

    @app.exception_handler(HTTPException)
    async def wrong_address(request: Request, error: HTTPException) -> JSONResponse:
        jobs = request.url.path.startswith("/v1/jobs")
        where = {
            404: "no such address; /docs lists them"
            + (", and jobs need a server that was started with --jobs FOLDER" if jobs else ""),
            405: f"{request.method} is not allowed here; /docs lists what is",
        }
        message = where.get(error.status_code, HTTPStatus(error.status_code).phrase)
        return body(error.status_code, message, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, error: ClientDisconnect) -> JSONResponse:
        return body(499, "the client closed the connection")
