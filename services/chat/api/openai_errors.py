"""Failures as OpenAI's SDKs read them, for the routes that stand in for OpenAI's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from shared.errors import ExpectedFailure
from shared.http.errors import problem_of
from shared.http.problems import Responses

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


class OpenAIError(BaseModel):
    """What went wrong; `code` is ours and stable."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorBody(BaseModel):
    """OpenAI's envelope around it."""

    error: OpenAIError


class OpenAIRoute(APIRoute):
    """A route whose expected failures, also those of its dependencies, have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ExpectedFailure as failure:
                return _response(failure)
            except RequestValidationError as failure:
                return _off_schema(failure)

        return handled


def openai_errors(*statuses: int) -> Responses:
    """FastAPI's `responses=` for such a route."""
    return {
        status: {"model": OpenAIErrorBody, "description": _type_of(status)}
        for status in (*statuses, 422, 503)
    }


def _response(failure: ExpectedFailure) -> Response:
    status, document, headers = problem_of(failure)
    error = OpenAIError(
        message=document["detail"],
        type=_type_of(status),
        param=failure.facts.get("param"),
        code=document["code"],
    )
    return JSONResponse({"error": error.model_dump()}, status, headers)


def _off_schema(failure: RequestValidationError) -> Response:
    """Where it is wrong, never what was sent: that may be a secret."""
    place = failure.errors()[0]["loc"]
    error = OpenAIError(
        message="The request is not valid.",
        type=_type_of(422),
        param=str(place[-1]) if len(place) == 2 else None,
        code="invalid_request",
    )
    return JSONResponse({"error": error.model_dump()}, 422)


def _type_of(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
