"""How a route states its errors in the documentation: one problem document (RFC 9457) for all."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.http.errors import PLAIN, PROBLEM, STATUS

Responses = dict[int | str, dict[str, Any]]

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


def problems(*statuses: int, **codes: str) -> Responses:
    """FastAPI's `responses=`: statuses that need no explanation, and those whose codes are worth
    naming, as in `problems(401, _409="account_exists")`."""
    words = {status: _WORDS[status] for status in statuses}
    words |= {int(status.removeprefix("_")): f"`{text}`" for status, text in codes.items()}
    content = {PROBLEM: {"schema": Problem.model_json_schema()}}
    return {status: {"description": text, "content": content} for status, text in words.items()}
