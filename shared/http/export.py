"""Everything kept about a user as one JSON document, written while it is read from the database.

A value in it is plain, or comes in pages and is written as an array. Memory holds a page at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

T = TypeVar("T")

# Small answers are complete before they begin, so that a database that is away is a 503.
_CHUNK_BYTES = 64 * 1024


async def pages_of(
    pages: AsyncIterator[Sequence[T]], body: Callable[[T], BaseModel]
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """The pages as clients see their items."""
    async for page in pages:
        yield [body(item).model_dump(mode="json") for item in page]


async def json_answer(document: Mapping[str, Any]) -> StreamingResponse:
    """The document as an answer; one that can't be finished breaks off visibly."""
    chunks = _in_chunks(json_pieces(document))
    first = await anext(chunks, b"")
    return StreamingResponse(
        _after(first, chunks),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


async def json_pieces(value: Any) -> AsyncIterator[bytes]:
    """A value as JSON, piece by piece. Async iterators in it are pages of an array's items."""
    if isinstance(value, AsyncIterator):
        yield b"["
        separator = b""
        async for page in value:
            for item in page:
                yield separator
                async for piece in json_pieces(item):
                    yield piece
                separator = b","
        yield b"]"
    elif isinstance(value, Mapping) and any(isinstance(v, AsyncIterator) for v in value.values()):
        separator = b"{"
        for name, part in value.items():
            yield separator + orjson.dumps(name) + b":"
            async for piece in json_pieces(part):
                yield piece
            separator = b","
        yield b"}"
    else:
        yield orjson.dumps(value, option=orjson.OPT_UTC_Z)


async def _in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= _CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
