"""Bytes as they travel: JSON and server-sent events."""

from functools import lru_cache
from typing import Any

import orjson

EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
}
JSON = {"Content-Type": "application/json"}


def dump(value: Any) -> bytes:
    return orjson.dumps(value)


@lru_cache(maxsize=65536)
def quoted(text: str) -> bytes:
    """One JSON string; remembered, since streams are made of the same few words."""
    return orjson.dumps(text)


def data(value: Any) -> bytes:
    """An event without a name."""
    return b"data: %b\n\n" % orjson.dumps(value)


def event(value: dict[str, Any]) -> bytes:
    """An event named after the type it carries."""
    return b"event: %b\ndata: %b\n\n" % (str(value["type"]).encode(), orjson.dumps(value))
