"""What may be said about an entry later, and what is left of it then."""

from __future__ import annotations

from dataclasses import fields, replace
from uuid import uuid4

import pytest

from services.billing.domain.correction import Corrected, Correction, Deltas, Occasion
from services.billing.domain.errors import (
    AdjustmentNotAcceptable,
    UsageNotPriced,
    UsageVoidedAlready,
)
from services.billing.domain.ledger import Counts, Rating
from shared.events.usage import MOST_UNITS
from shared.ids import EventId, UserId
from shared.money import MicroDollars
from tests.support.billing import NOON, an_entry

STAFF = UserId(uuid4())
USED = Deltas(1000, 200, 100, 300, 50, 7, 205)
NAMES = [field.name for field in fields(Deltas)]


def an_occasion(key: str | None = None) -> Occasion:
    return Occasion(EventId(uuid4()), "Counted again.", STAFF, "billing", NOON, key)


def used(cost: int | None = 205, *corrections: Correction) -> Corrected:
    """An entry of `USED`, with what was said about it."""
    entry = replace(an_entry(at=NOON), counts=Counts(1000, 200, 100, 300, 50, 7))
    rating = None if cost is None else Rating(MicroDollars(cost), "list/1")
    return Corrected(entry.rated(rating), corrections)


def test_before_anything_is_said_it_stands_as_it_came() -> None:
    assert used().standing == USED
    assert used(cost=None).standing == replace(USED, cost_microusd=0)
    assert not used().is_voided


@pytest.mark.parametrize("name", NAMES)
def test_an_adjustment_adds_to_its_own_number_alone(name: str) -> None:
    less, more = Deltas(**{name: -3}), Deltas(**{name: 1})
    once = used().adjusted(less, an_occasion())
    assert (once.kind, once.deltas) == ("adjusted", less)
    # The call stays one call, priced or not.
    assert (once.requests, once.unpriced_requests) == (0, 0)
    twice = Corrected(
        used().entry, [once, Corrected(used().entry, [once]).adjusted(more, an_occasion())]
    )
    assert twice.standing == replace(USED, **{name: getattr(USED, name) - 2})


@pytest.mark.parametrize("name", NAMES)
def test_an_adjustment_may_leave_nothing_of_a_number_but_not_less(name: str) -> None:
    there = getattr(USED, name)
    used().adjusted(Deltas(**{name: -there}), an_occasion())
    with pytest.raises(AdjustmentNotAcceptable):
        used().adjusted(Deltas(**{name: -there - 1}), an_occasion())


@pytest.mark.parametrize("name", NAMES)
def test_an_adjustment_brings_no_number_beyond_what_an_entry_may_have(name: str) -> None:
    most = 2**63 - 1 if name == "cost_microusd" else MOST_UNITS
    rest = most - getattr(USED, name)
    used().adjusted(Deltas(**{name: rest}), an_occasion())
    with pytest.raises(AdjustmentNotAcceptable):
        used().adjusted(Deltas(**{name: rest + 1}), an_occasion())


def test_an_adjustment_of_nothing_or_of_what_has_no_price_is_refused() -> None:
    with pytest.raises(AdjustmentNotAcceptable):
        used().adjusted(Deltas(), an_occasion())
    with pytest.raises(UsageNotPriced):
        used(cost=None).adjusted(Deltas(input_tokens=-1), an_occasion())


def test_voiding_takes_away_all_that_is_left() -> None:
    less = used().adjusted(Deltas(input_tokens=-400, cost_microusd=-60), an_occasion())
    voided = Corrected(used().entry, [less]).voided(an_occasion())
    assert (voided.kind, voided.requests, voided.unpriced_requests) == ("voided", -1, 0)
    gone = Corrected(used().entry, [less, voided])
    assert gone.standing == Deltas()
    assert gone.is_voided


def test_voiding_what_has_no_price_takes_it_from_what_waits_for_one() -> None:
    voided = used(cost=None).voided(an_occasion())
    assert (voided.requests, voided.unpriced_requests) == (-1, -1)
    assert voided.deltas == -replace(USED, cost_microusd=0)


def test_nothing_more_is_said_about_what_was_voided() -> None:
    gone = Corrected(used().entry, [used().voided(an_occasion())])
    with pytest.raises(UsageVoidedAlready):
        gone.voided(an_occasion())
    with pytest.raises(UsageVoidedAlready):
        gone.adjusted(Deltas(input_tokens=1), an_occasion())


def test_what_was_said_is_found_again_by_its_id_or_its_key() -> None:
    plain, keyed = an_occasion(), an_occasion("key-1")
    first = used().adjusted(Deltas(input_tokens=-1), plain)
    second = used().adjusted(Deltas(input_tokens=-2), keyed)
    both = Corrected(used().entry, [first, second])
    assert (both.has(plain.id), both.has(keyed.id), both.has(uuid4())) == (True, True, False)
    assert both.by_key("key-1") is second
    assert both.by_key("key-2") is None
    # Without a key nothing is a repetition.
    assert both.by_key(None) is None
