"""Whether a request lets its answer be kept, to be said again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

CacheControl = Annotated[
    str,
    Header(
        alias="Cache-Control",
        max_length=500,
        description="`no-store`: neither say again what was kept, nor keep this.",
    ),
]


def may_be_stored(cache_control: str) -> bool:
    """Unless it says `no-store`, however that is written."""
    return "no-store" not in [word.strip().lower() for word in cache_control.split(",")]
