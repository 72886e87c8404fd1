"""CSV, NDJSON and Parquet, written piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from services.billing.domain.csv_cell import cell
from services.billing.domain.usage_export import FormatName, Row, Rows

_ROWS_A_GROUP = 10_000


class CsvFormat:
    """RFC 4180 in UTF-8 with a line of names; empty for what is not known."""

    name: FormatName = "csv"
    media_type = "text/csv"

    def begin(self, columns: Mapping[str, str]) -> _CsvEncoder:
        return _CsvEncoder(columns)


class _CsvEncoder:
    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = list(columns)
        self._head = (",".join(self._columns) + "\r\n").encode()

    def rows(self, rows: Rows) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows([cell(row[name]) for name in self._columns] for row in rows)
        head, self._head = self._head, b""
        return head + text.getvalue().encode()

    def end(self) -> bytes:
        return self._head


class NdjsonFormat:
    """One JSON object a line; null for what is not known."""

    name: FormatName = "ndjson"
    media_type = "application/x-ndjson"

    def begin(self, columns: Mapping[str, str]) -> _NdjsonEncoder:
        return _NdjsonEncoder(columns)


class _NdjsonEncoder:
    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = list(columns)

    def rows(self, rows: Rows) -> bytes:
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        return b"".join(
            orjson.dumps(
                {name: row[name] for name in self._columns}, default=_plain, option=options
            )
            for row in rows
        )

    def end(self) -> bytes:
        return b""


def _plain(value: Any) -> str:
    # The database's ids are of a class of their own.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError


class ParquetFormat:
    """Parquet with Zstandard, ids as text and moments in microseconds, UTC."""

    name: FormatName = "parquet"
    media_type = "application/vnd.apache.parquet"

    def begin(self, columns: Mapping[str, str]) -> _ParquetEncoder:
        return _ParquetEncoder(columns)


class _Pipe(io.RawIOBase):
    """What was written and not yet taken out."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _ParquetEncoder:
    def __init__(self, columns: Mapping[str, str]) -> None:
        # Imported here: it takes most of a second, and few processes need it.
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            "uuid": pa.string(),
            "text": pa.string(),
            "number": pa.int64(),
            "flag": pa.bool_(),
            "moment": pa.timestamp("us", tz="UTC"),
        }
        self._schema = pa.schema(
            [pa.field(name, types[kind]) for name, kind in columns.items()],
            metadata={"companion.usage": "1"},
        )
        self._ids = [name for name, kind in columns.items() if kind == "uuid"]
        self._pipe = _Pipe()
        self._writer = pq.ParquetWriter(self._pipe, self._schema, compression="zstd")
        self._waiting: list[Row] = []

    def rows(self, rows: Rows) -> bytes:
        self._waiting += rows
        if len(self._waiting) >= _ROWS_A_GROUP:
            self._write_group()
        return self._pipe.take()

    def end(self) -> bytes:
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._pipe.take()

    def _write_group(self) -> None:
        import pyarrow as pa

        rows = [{**row, **{name: _text(row[name]) for name in self._ids}} for row in self._waiting]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._waiting = []


def _text(id_: UUID | None) -> str | None:
    return None if id_ is None else str(id_)
