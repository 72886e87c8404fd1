"""The ledger's rows as a file: CSV, one JSON object a line, or Parquet, sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from services.billing.api.accept import JSON, liked_best
from services.billing.domain.usage_export import FormatName

CSV = "text/csv"
NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"

FORMATS: dict[str, FormatName] = {CSV: "csv", NDJSON: "ndjson", PARQUET: "parquet"}
_TYPES = {name: media_type for media_type, name in FORMATS.items()}


def wanted_format(accept: str | None) -> FormatName | None:
    """The kind of file that the client likes best; None for a page of JSON."""
    return FORMATS.get(liked_best(accept, (JSON, *FORMATS)))


async def export(pieces: AsyncIterator[bytes], format_: FormatName) -> StreamingResponse:
    """All the pieces as one file. The first one is made before the answer begins, so that a
    database that is away is a 503; one that goes away later breaks the transfer off, visibly."""
    first = await anext(pieces, b"")
    return StreamingResponse(
        _after(first, pieces),
        media_type=_TYPES[format_],
        headers={
            "content-disposition": f'attachment; filename="usage.{format_}"',
            "cache-control": "no-store",
            "vary": "accept",
        },
    )


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
