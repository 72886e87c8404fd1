"""What a service outside the suite may tell, what is held for somebody to look at, and as what it
is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.domain.ledger import Counts
from services.billing.domain.ledger_chain import chain_of, chain_on
from services.billing.domain.outside_usage import CLOCK_TOLERANCE, MOST_UNITS_AT_ONCE, OutsideEvent
from shared.ids import UserId
from tests.support.billing import NOON

MOMENT = timedelta(microseconds=1)
EVENT = OutsideEvent(
    reporter=UserId(uuid4()),
    source="/screenshots",
    external_id="shot-1",
    user_id=UserId(uuid4()),
    occurred_at=NOON,
    meter="screenshot",
    quantity=Decimal(3),
)


def code_of(**facts: Any) -> str | None:
    """Why it is held, told at noon; None where it is counted."""
    trouble = replace(EVENT, **facts).trouble(NOON)
    assert trouble is None or (trouble.held and trouble.detail.endswith("."))
    return trouble.code if trouble else None


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({}, None),
        ({"unit": "screenshot"}, None),
        ({"unit": "page"}, "unknown_unit"),
        ({"meter": "page"}, "unknown_meter"),
        ({"quantity": Decimal(1)}, None),
        ({"quantity": Decimal(0)}, "quantity_out_of_range"),
        ({"quantity": Decimal(-1)}, "quantity_out_of_range"),
        ({"quantity": Decimal("1.5")}, "quantity_not_whole"),
        ({"quantity": Decimal("2.00")}, None),
        ({"quantity": Decimal(MOST_UNITS_AT_ONCE)}, None),
        ({"quantity": Decimal(MOST_UNITS_AT_ONCE + 1)}, "quantity_out_of_range"),
        ({"occurred_at": datetime(2020, 1, 1, tzinfo=UTC)}, None),
        ({"occurred_at": datetime(2020, 1, 1, tzinfo=UTC) - MOMENT}, "time_out_of_range"),
        ({"occurred_at": NOON + CLOCK_TOLERANCE}, None),
        ({"occurred_at": NOON + CLOCK_TOLERANCE + MOMENT}, "time_ahead"),
    ],
)
def test_what_can_not_be_counted_as_it_stands_is_held(
    facts: dict[str, Any], code: str | None
) -> None:
    assert code_of(**facts) == code


def test_an_event_becomes_an_entry_of_as_many_units() -> None:
    entry = EVENT.to_entry("pro")
    assert entry.counts == Counts(units=3)
    assert (entry.operation, entry.unit, entry.tier) == ("screenshot", "screenshot", "pro")
    assert (entry.provider, entry.producer) == ("outside", "outside:/screenshots")
    # What its reporter leaves out is told by what it says.
    assert (entry.model, entry.request_id) == ("screenshot", "shot-1")
    named = replace(EVENT, model="full-page", request_id="req-1").to_entry("pro")
    assert (named.model, named.request_id) == ("full-page", "req-1")


def test_an_entry_is_of_the_day_on_which_it_happened() -> None:
    late = replace(EVENT, occurred_at=datetime(2026, 11, 24, 23, 59, 59, 999_000, tzinfo=UTC))
    assert chain_of(late.event_id) == chain_on(late.occurred_at.date())
    assert (late.event_id.int >> 80) == int(late.occurred_at.timestamp() * 1000)


def test_told_twice_it_is_one_entry_and_of_another_reporter_another() -> None:
    assert replace(EVENT).event_id == EVENT.event_id
    others = [
        replace(EVENT, reporter=UserId(uuid4())),
        replace(EVENT, source="/pages"),
        replace(EVENT, external_id="shot-2"),
    ]
    assert len({EVENT.event_id, *(other.event_id for other in others)}) == 4


def test_the_same_content_has_one_digest_however_it_was_written_down() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=5)))
    again = replace(EVENT, quantity=Decimal("3.0"), occurred_at=east)
    assert (again.digest, again.content) == (EVENT.digest, EVENT.content)
    thousand = replace(EVENT, quantity=Decimal(1000))
    assert replace(EVENT, quantity=Decimal("1E+3")).digest == thousand.digest


@pytest.mark.parametrize(
    "facts",
    [
        {"user_id": UserId(UUID(int=1))},
        {"occurred_at": NOON + timedelta(seconds=1)},
        {"meter": "page"},
        {"quantity": Decimal(4)},
        {"unit": "screenshot"},
        {"model": "full-page"},
        {"request_id": "req-1"},
        {"session_id": UUID(int=1)},
        {"sandbox": True},
        {"metadata": {"width": 800}},
    ],
)
def test_other_content_has_another_digest(facts: dict[str, Any]) -> None:
    other = replace(EVENT, **facts)
    assert other.digest != EVENT.digest
    assert not EVENT.is_what_was_told(other.digest)


def test_what_is_said_beside_it_is_told_apart_but_is_no_other_usage() -> None:
    beside = replace(EVENT, metadata={"width": 800, "height": 600})
    turned = replace(EVENT, metadata={"height": 600, "width": 800})
    assert (turned.digest, beside.content) == (beside.digest, EVENT.content)
    assert replace(EVENT, metadata={"width": 800, "height": 601}).digest != beside.digest
    # It was told before anybody heard what is said beside it.
    assert beside.is_what_was_told(beside.digest)
    assert beside.is_what_was_told(EVENT.digest)
