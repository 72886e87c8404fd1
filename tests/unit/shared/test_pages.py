"""Lists a page at a time, by cursors that nobody can make up."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.pages import BadCursor, Page, cursor_of, moment_in_cursor, read_cursor


def test_one_item_too_many_tells_of_another_page() -> None:
    page = Page.of([1, 2, 3], 2, str)
    assert (page.data, page.next_cursor) == ([1, 2], "2")


@pytest.mark.parametrize("items", [[], [1], [1, 2]])
def test_the_last_page_has_no_cursor(items: list[int]) -> None:
    page = Page.of(items, 2, str)
    assert (page.data, page.next_cursor) == (items, None)


def test_a_cursor_brings_back_what_it_names() -> None:
    at, id_ = datetime.now(UTC), uuid4()
    cursor = cursor_of(at.isoformat(), id_)
    assert read_cursor(cursor, datetime.fromisoformat, UUID) == (at, id_)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"))))
def test_any_parts_come_back(parts: list[str]) -> None:
    assert read_cursor(cursor_of(*parts), *([str] * max(1, len(parts)))) == tuple(parts or [""])


def test_a_cursor_fits_into_a_url() -> None:
    assert all(c.isalnum() or c in "-_" for c in cursor_of("ÿ?&=/+" * 9, uuid4()))


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "é",
        "�",
        "\x00",
        "a",
        "=" * 9,
        "A" * 10000,
        encoded(b"\xff\xfe"),
        encoded(b"only-one"),
        encoded(b"no-time\x1f" + str(UUID(int=7)).encode()),
        encoded(b"2030-01-01\x1fno-uuid"),
        encoded(b"a\x1fb\x1fc"),
    ],
)
def test_any_other_text_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        read_cursor(cursor, datetime.fromisoformat, UUID)


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-11-24T10:00:00", "2026", ""],
)
def test_a_moment_that_no_database_takes_is_refused(moment: str) -> None:
    with pytest.raises(BadCursor):
        read_cursor(cursor_of(moment, UUID(int=7)), moment_in_cursor, UUID)


@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_comes_back_or_is_refused(moment: datetime) -> None:
    try:
        [read] = read_cursor(cursor_of(moment.isoformat()), moment_in_cursor)
    except BadCursor:
        return
    assert read == moment.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"9" * 5000, int),
        (b"x", Decimal),
        (b"1e999999999", Decimal),
        (b"inf", lambda t: int(float(t))),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(text: bytes, kind: type[int]) -> None:
    try:
        assert read_cursor(encoded(text), kind) is not None
    except BadCursor as refused:
        assert refused.code == "bad_cursor"


@given(st.text())
def test_any_text_is_read_or_refused(cursor: str) -> None:
    try:
        assert len(read_cursor(cursor, int)) == 1
    except BadCursor as refused:
        assert refused.code == "bad_cursor"
