"""What a file of usage looks like, and who gets one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.billing.api.accept import JSON, liked_best
from services.billing.api.dependencies import read_moment
from services.billing.api.export import CSV, NDJSON, PARQUET, export
from services.billing.domain.errors import BadPeriod
from shared.errors import DependencyUnavailable


async def pieces(*given: bytes, then_away: bool = False) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if then_away:
        raise DependencyUnavailable("database")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("Text/CSV; charset=utf-8", CSV),
        ("application/x-ndjson", NDJSON),
        ("application/vnd.apache.parquet", PARQUET),
        ("text/*", CSV),
        ("application/json;q=0.2, text/csv;q=0.9", CSV),
        ("text/csv;q=0, */*;q=0.1", JSON),
        ("text/csv;q=much", JSON),
        ("image/png", JSON),
        (",;q=,;;", JSON),
    ],
)
def test_the_client_gets_the_type_it_likes_best(accept: str | None, expected: str) -> None:
    assert liked_best(accept, (JSON, CSV, NDJSON, PARQUET)) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # What a browser says that was led to an invoice.
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/pdf;q=0, application/json", JSON),
        ("text/html;q=0.1, application/pdf", "application/pdf"),
        ("text/html;q=0", JSON),
        ("application/*", JSON),
        ("text/*", "text/html"),
    ],
)
def test_an_invoice_is_what_the_client_likes_best(accept: str, expected: str) -> None:
    assert liked_best(accept, (JSON, "text/html", "application/pdf")) == expected


async def test_a_file_is_sent_piece_by_piece() -> None:
    response = await export(pieces(b"one", b"two"), "csv")
    assert [part async for part in response.body_iterator] == [b"one", b"two"]
    assert response.headers["content-type"].startswith(CSV)
    assert response.headers["content-disposition"] == 'attachment; filename="usage.csv"'


async def test_a_database_that_is_away_fails_before_the_file_begins() -> None:
    with pytest.raises(DependencyUnavailable):
        await export(pieces(then_away=True), "csv")


async def test_a_database_that_goes_away_later_breaks_the_file_off() -> None:
    response = await export(pieces(b"one", then_away=True), "ndjson")
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
