"""The header by which a client marks that a request is one that it may have sent before."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from shared.vendors.dropins import BadParameter

LONGEST_KEY = 200
PATTERN = r"^[\x21-\x7e]+$"
_VISIBLE = re.compile(PATTERN)

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY, pattern=PATTERN),
]


def is_key(value: bytes) -> bool:
    """Whether it is one, as it stands in the head of a request."""
    return len(value) <= LONGEST_KEY and _VISIBLE.fullmatch(value.decode("latin-1")) is not None


def key_in(value: str | None) -> str | None:
    """The header's value, for routes that read their headers themselves. Raises BadParameter."""
    if value is not None and (len(value) > LONGEST_KEY or not _VISIBLE.fullmatch(value)):
        raise BadParameter("Idempotency-Key", f"up to {LONGEST_KEY} visible ASCII characters")
    return value
