"""How a route states its errors in the documentation: one problem document (RFC 9457) for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from shared.http.errors import PLAIN, PROBLEM, STATUS

Responses = dict[int | str, dict[str, Any]]

_NEVER = "x-never"
_TITLES = {status: title for status, (_, title) in PLAIN.items()} | dict(STATUS.values())
_WORDS = {status: f"{title}." for status, title in _TITLES.items()}


class Problem(BaseModel):
    """RFC 9457, with a stable `code` and the facts of the failure beside it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None


NEVER: dict[str, Any] = {_NEVER: True, "description": ""}
"""In a route's `responses=`: it never answers so, whatever the application's other routes do."""


def problems(*statuses: int, **codes: str) -> Responses:
    """FastAPI's `responses=`: statuses that need no explanation, and those whose codes are worth
    naming, as in `problems(401, _409="account_exists")`."""
    words = {status: _WORDS[status] for status in statuses}
    words |= {int(status.removeprefix("_")): f"`{text}`" for status, text in codes.items()}
    content = {PROBLEM: {"schema": Problem.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in words.items()}


_BEFORE_ROUTES = {str(status): answer for status, answer in problems(401, 413, 415).items()}


def document_no_more_than_answered(app: FastAPI) -> None:
    """Leave the statuses that are `NEVER` out of the application's OpenAPI document."""
    with_all = app.openapi

    def answered() -> dict[str, Any]:
        document = with_all()
        for path in document["paths"].values():
            for operation in path.values():
                told = operation["responses"]
                for status in [status for status, answer in told.items() if _NEVER in answer]:
                    del told[status]
        return document

    app.openapi = answered  # type: ignore[method-assign]


def document_what_any_door_answers(app: FastAPI) -> None:
    """Say of each operation what is answered before its route is asked, always as a problem
    document: to a token that is no good, and to a body that is too large or compressed. Routes
    that stand in for a vendor's state only that vendor's form."""
    with_routes = app.openapi

    def answered() -> dict[str, Any]:
        document = with_routes()
        for path in document["paths"].values():
            for method, operation in path.items():
                path[method] = {**operation, "responses": _with_the_doors(operation)}
        return document

    app.openapi = answered  # type: ignore[method-assign]


def _with_the_doors(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    stated = dict(operation["responses"])
    for status, answer in _BEFORE_ROUTES.items():
        if status in stated or (status != "401" and "requestBody" in operation):
            of_route = stated.get(status, {})
            content = {**answer["content"], **of_route.get("content", {})}
            stated[status] = {**answer, **of_route, "content": content}
    return stated
