"""Rows as JSON or as a CSV file, whichever the client asks for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fastapi import Response
from pydantic import BaseModel

from services.billing.api.accept import JSON, liked_best
from services.billing.api.export import CSV
from services.billing.domain.csv_cell import cell


def wants_csv(accept: str | None) -> bool:
    return liked_best(accept, (JSON, CSV)) == CSV


def as_csv(name: str, columns: Sequence[str], rows: Sequence[BaseModel]) -> Response:
    """A file with a line for each row."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        cells = row.model_dump(mode="json")
        writer.writerow([cell(cells.get(column)) for column in columns])
    return Response(
        text.getvalue(),
        media_type=CSV,
        headers={
            "content-disposition": f'attachment; filename="{name}.csv"',
            "cache-control": "no-store",
            "vary": "accept",
        },
    )
