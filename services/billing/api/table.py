"""Rows as JSON or as a CSV file, whichever the client asks for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from services.billing.api.export import CSV, wanted_type

# A spreadsheet would run a text that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def wants_csv(accept: str | None) -> bool:
    return wanted_type(accept) == CSV


def as_csv(name: str, columns: Sequence[str], rows: Sequence[BaseModel]) -> Response:
    """A file with a line for each row."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        cells = row.model_dump(mode="json")
        writer.writerow([_cell(cells.get(column)) for column in columns])
    return Response(
        text.getvalue(),
        media_type=CSV,
        headers={
            "content-disposition": f'attachment; filename="{name}.csv"',
            "cache-control": "no-store",
            "vary": "accept",
        },
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
