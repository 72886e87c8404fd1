"""How a route states its errors in the documentation: one problem document (RFC 9457) for all."""

from __future__ import annotations

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
