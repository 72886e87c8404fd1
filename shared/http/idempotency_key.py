"""The header by which a client marks that a request is one that it may have sent before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Header

from shared.vendors.dropins import BadParameter

NAME = "Idempotency-Key"
LONGEST_KEY = 200
PATTERN = r"^[\x21-\x7e]+$"
_VISIBLE = re.compile(PATTERN)

PARAMETER: Mapping[str, Any] = {
    "name": NAME,
    "in": "header",
    "required": False,
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_KEY,
        "pattern": PATTERN,
    },
}
"""What OpenAPI says of it, for routes that read their headers themselves."""


def key_header(description: str | None = None) -> Any:
    """The header for a FastAPI route. `description` says what the key is good for there."""
    return Header(
        alias=NAME,
        min_length=1,
        max_length=LONGEST_KEY,
        pattern=PATTERN,
        description=description,
    )


IdempotencyKey = Annotated[str | None, key_header()]
RequiredIdempotencyKey = Annotated[str, key_header()]


def is_key(value: str) -> bool:
    """Whether a header's value can be one."""
    return len(value) <= LONGEST_KEY and _VISIBLE.fullmatch(value) is not None


def key_in(value: str | None) -> str | None:
    """The header's value, for routes that read their headers themselves. Raises BadParameter."""
    if value is not None and not is_key(value):
        raise BadParameter(NAME, f"up to {LONGEST_KEY} visible ASCII characters")
    return value
