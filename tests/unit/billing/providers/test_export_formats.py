"""What a file of usage looks like in each format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.billing.actions.export_records import row_of
from services.billing.domain.csv_cell import cell
from services.billing.domain.export_ports import FileFormat
from services.billing.domain.ledger import Rating
from services.billing.domain.usage_export import COLUMNS, OWN_COLUMNS, Row, Rows
from services.billing.providers.export_formats import (
    CsvFormat,
    NdjsonFormat,
    ParquetFormat,
)
from shared.money import MicroDollars
from tests.support.billing import an_entry

UNKNOWN = row_of(an_entry())
RATED = row_of(an_entry().rated(Rating(MicroDollars(205), "list/1")))


def file_of(format_: FileFormat, *pages: Rows) -> bytes:
    encoder = format_.begin(COLUMNS)
    return b"".join([*(encoder.rows(page) for page in pages), encoder.end()])


def table_of(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


def read(format_: FileFormat, content: bytes) -> list[Row]:
    if format_.name == "csv":
        return list(csv.DictReader(io.StringIO(content.decode())))
    if format_.name == "ndjson":
        return [json.loads(line) for line in content.splitlines()]
    return list(table_of(content).to_pylist())


@pytest.mark.parametrize("format_", [CsvFormat(), NdjsonFormat(), ParquetFormat()])
def test_each_format_has_all_rows_and_all_columns(format_: FileFormat) -> None:
    rows = read(format_, file_of(format_, [RATED], [], [UNKNOWN]))
    assert [row["event_id"] for row in rows] == [str(RATED["event_id"]), str(UNKNOWN["event_id"])]
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert str(rows[0]["cost_microusd"]) == "205"
    assert rows[0]["cost_usd"] == "0.000205"
    assert rows[1]["cost_microusd"] in ("", None)  # unknown, which is not nothing
    assert rows[1]["pricing_status"] == "unknown_price"


@pytest.mark.parametrize("format_", [CsvFormat(), NdjsonFormat(), ParquetFormat()])
def test_nothing_is_a_file_that_can_be_read(format_: FileFormat) -> None:
    assert read(format_, file_of(format_)) == []


def test_the_columns_are_a_promise() -> None:
    assert ",".join(COLUMNS) == (
        "event_id,occurred_at,received_at,tier,operation,provider,model,source,outcome,"
        "input_tokens,cache_read_tokens,cache_write_tokens,output_tokens,output_reasoning_tokens,"
        "characters,units,unit,service_tier,request_id,provider_request_id,session_id,sandbox,"
        "pricing_status,cost_microusd,cost_usd,price_version,record,correction_id,requests,"
        "unpriced_requests,user_id,producer,rated_at,cached,"
        "key_organisation_id"
    )
    assert set(COLUMNS) - set(OWN_COLUMNS) == {"user_id", "producer", "rated_at"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "-1+1", "-"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-5, "-0.000205", "gpt-6-luna", '"a",\nb', ""])
def test_a_number_and_a_plain_text_stay_as_they_are(value: object) -> None:
    assert cell(value) == value


def test_parquet_leaves_the_memory_in_groups_of_rows() -> None:
    encoder = ParquetFormat().begin(COLUMNS)
    sent = [len(encoder.rows([RATED] * 2_500)) for _ in range(8)]
    assert [size > 0 for size in sent[1:]] == [False, False, True, False, False, False, True]
    table = table_of(file_of(ParquetFormat(), [RATED]))
    assert table.schema.field("occurred_at").type == pa.timestamp("us", tz="UTC")


def test_the_page_names_every_column() -> None:
    page = (Path(__file__).parents[4] / "docs" / "usage-events.md").read_text()
    columns = page.partition("### Columns")[2]
    assert {name for name in COLUMNS if f"`{name}`" not in columns} == set()
