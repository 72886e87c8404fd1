"""Ledger entries as a file: CSV or one JSON object a line, streamed page by page."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from services.billing.api.record_body import RecordBody
from services.billing.domain.ledger import Entry

Pages = AsyncIterator[Sequence[Entry]]

CSV = "text/csv"
NDJSON = "application/x-ndjson"
JSON = "application/json"

_COLUMNS = list(RecordBody.model_fields)
# A spreadsheet would run a text that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def wanted_type(accept: str | None) -> str:
    """The media type that the client likes best of those we have; JSON when it has no wish."""
    best, best_quality = JSON, 0.0
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        offered = {"*/*": JSON, "application/*": JSON, "text/*": CSV}.get(name, name)
        quality = _quality(parameters)
        if offered in {CSV, NDJSON, JSON} and quality > best_quality:
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


async def export(pages: Pages, media_type: str) -> StreamingResponse:
    """All the pages as one file. The first one is read before the answer begins, so that a database
    that is away is a 503; one that goes away later breaks the transfer off, visibly."""
    first: Sequence[Entry] = await anext(pages, [])
    write = _csv if media_type == CSV else _ndjson
    name = "usage.csv" if media_type == CSV else "usage.ndjson"
    return StreamingResponse(
        _lines(first, pages, write, _csv_head() if media_type == CSV else b""),
        media_type=media_type,
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
            "vary": "accept",
        },
    )


async def _lines(
    first: Sequence[Entry], pages: Pages, write: Callable[[Sequence[Entry]], bytes], head: bytes
) -> AsyncIterator[bytes]:
    yield head + write(first)
    async for page in pages:
        yield write(page)


def _ndjson(page: Sequence[Entry]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in _rows(page))


def _csv(page: Sequence[Entry]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row[name]) for name in _COLUMNS] for row in _rows(page))
    return text.getvalue().encode()


def _csv_head() -> bytes:
    return (",".join(_COLUMNS) + "\r\n").encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _rows(page: Sequence[Entry]) -> list[Mapping[str, Any]]:
    return [RecordBody.of(entry).model_dump(mode="json") for entry in page]
