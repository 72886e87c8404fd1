"""What a file of usage looks like, and who gets one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.billing.api.dependencies import read_moment
from services.billing.api.export import CSV, JSON, NDJSON, export, wanted_type
from services.billing.api.record_body import RecordBody
from services.billing.domain.errors import BadPeriod
from services.billing.domain.ledger import Entry, Rating
from shared.errors import DependencyUnavailable
from shared.money import MicroDollars
from tests.support.billing import an_entry


async def pages(*given: Sequence[Entry]) -> AsyncIterator[Sequence[Entry]]:
    for page in given:
        yield page


async def pages_until_the_database_goes_away(
    *given: Sequence[Entry],
) -> AsyncIterator[Sequence[Entry]]:
    for page in given:
        yield page
    raise DependencyUnavailable("database")


async def text_of(media_type: str, *given: Sequence[Entry]) -> str:
    response = await export(pages(*given), media_type)
    parts = [part async for part in response.body_iterator]
    return b"".join(part for part in parts if isinstance(part, bytes)).decode()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("Text/CSV; charset=utf-8", CSV),
        ("application/x-ndjson", NDJSON),
        ("text/*", CSV),
        ("application/json;q=0.2, text/csv;q=0.9", CSV),
        ("text/csv;q=0, */*;q=0.1", JSON),
        ("text/csv;q=much", JSON),
        ("image/png", JSON),
        (",;q=,;;", JSON),
    ],
)
def test_the_client_gets_the_type_it_likes_best(accept: str | None, expected: str) -> None:
    assert wanted_type(accept) == expected


async def test_csv_has_a_head_and_a_line_for_each_entry() -> None:
    rated = an_entry().rated(Rating(MicroDollars(205), "list/1"))
    unknown = an_entry()
    rows = list(csv.DictReader(io.StringIO(await text_of(CSV, [rated], [unknown]))))
    assert list(rows[0]) == list(RecordBody.model_fields)
    assert [row["event_id"] for row in rows] == [str(rated.event_id), str(unknown.event_id)]
    assert (rows[0]["cost_microusd"], rows[0]["cost_usd"]) == ("205", "0.000205")
    assert (rows[1]["cost_microusd"], rows[1]["pricing_status"]) == ("", "unknown_price")
    assert rows[0]["sandbox"] == "false"


async def test_no_cell_is_a_formula() -> None:
    strange = an_entry(model='=HYPERLINK("http://example.invalid")', request_id='"a",\nb')
    row = next(csv.DictReader(io.StringIO(await text_of(CSV, [strange]))))
    assert row["model"].startswith("'=")
    assert row["request_id"] == '"a",\nb'


async def test_ndjson_has_a_line_for_each_entry_with_null_for_the_unknown() -> None:
    lines = (await text_of(NDJSON, [an_entry(), an_entry()])).splitlines()
    assert [json.loads(line)["cost_microusd"] for line in lines] == [None, None]


async def test_nothing_is_an_empty_file_with_a_head() -> None:
    assert (await text_of(CSV)).startswith("event_id,")
    assert await text_of(NDJSON) == ""


async def test_a_database_that_is_away_fails_before_the_file_begins() -> None:
    with pytest.raises(DependencyUnavailable):
        await export(pages_until_the_database_goes_away(), CSV)


async def test_a_database_that_goes_away_later_breaks_the_file_off() -> None:
    response = await export(pages_until_the_database_goes_away([an_entry()]), NDJSON)
    with pytest.raises(DependencyUnavailable):
        [part async for part in response.body_iterator]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T10:00:00Z",
        "2026-11-24T12:00:00+02:00",
        "2026-11-24T12:00:00 02:00",
        "2026-11-24T10:00Z",
    ],
)
def test_a_moment_is_read_in_its_zone(text: str) -> None:
    assert read_moment(text) == datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_a_date_is_a_whole_day() -> None:
    day = datetime(2026, 11, 24, tzinfo=UTC)
    assert read_moment("2026-11-24") == day
    assert read_moment("2026-11-24", end_of_day=True) == day + timedelta(days=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "2026-11-24T10:00:00",
        "1764000000",
        "0001-01-01T00:00:00+14:00",
        "0000-01-01",
        "9999-12-31",
        "9999-12-31T23:59:59-14:00",
        "2026-11-24T25:00:00Z",
        "\x00",
        "٢٠٢٦-١١-٢٤",
        "\ud800",
    ],
)
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(BadPeriod):
        read_moment(text, end_of_day=True)
