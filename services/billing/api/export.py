"""The ledger's rows as a file: CSV, one JSON object a line, or Parquet, sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from starlette.responses import StreamingResponse

from services.billing.domain.usage_export import FormatName

CSV = "text/csv"
NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"

FORMATS: dict[str, FormatName] = {CSV: "csv", NDJSON: "ndjson", PARQUET: "parquet"}
_TYPES = {name: media_type for media_type, name in FORMATS.items()}


def wanted_type(accept: str | None) -> str:
    """The media type that the client likes best of those we have; JSON when it has no wish."""
    best, best_quality = JSON, 0.0
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        offered = {"*/*": JSON, "application/*": JSON, "text/*": CSV}.get(name, name)
        quality = _quality(parameters)
        if offered in {*FORMATS, JSON} and quality > best_quality:
            best, best_quality = offered, quality
    return best


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


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
