"""Forms and queries as OAuth wants them: names and values, each name once."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from services.auth.domain.authorization import Asked
from services.auth.domain.errors import InvalidOAuthRequest

FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 50


def query_of(request: Request) -> Asked:
    """What stands in the address. Raises InvalidOAuthRequest."""
    return _read(request.url.query)


async def form_of(request: Request) -> Asked:
    """What was sent in the body. Raises InvalidOAuthRequest."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise InvalidOAuthRequest(f"Send a body of the type {FORM}.")
    try:
        return _read((await request.body()).decode("ascii"))
    except UnicodeDecodeError as error:
        raise InvalidOAuthRequest("The body is no encoded form.") from error


def _read(text: str) -> Asked:
    try:
        # Strict, since what is half a character here may be a whole one elsewhere.
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise InvalidOAuthRequest("The parameters can't be read.") from error
    return Asked.of(pairs)


def documented(required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """How a route states its form in the description of the interface."""
    fields = {name: {"type": "string"} for name in (*required, *optional)}
    schema = {"type": "object", "required": list(required), "properties": fields}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}
