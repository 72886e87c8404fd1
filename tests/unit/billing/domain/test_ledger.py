"""What may stand in the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from services.billing.domain.errors import UsageNotAcceptable
from services.billing.domain.ledger import Entry, Place, Rating
from shared.events import Fact
from shared.events.usage import MOST_UNITS, UsageRecorded
from shared.money import MicroDollars
from tests.support.billing import EPOCH, NOON, a_usage, an_entry, id_made_at


def test_an_entry_says_what_the_event_said() -> None:
    fact = a_usage(at=NOON, tier="pro", sequence=7, service_tier="flex", sandbox=True, cached=True)
    entry = Entry.reported(fact)
    assert (entry.event_id, entry.user_id) == (fact.id, fact.event.user_id)
    assert (entry.tier, entry.service_tier, entry.sandbox) == ("pro", "flex", True)
    assert entry.cached
    assert entry.key_organisation_id is None
    firm = uuid4()
    ran = Entry.reported(a_usage(key_organisation_id=firm))
    assert ran.rated(None).key_organisation_id == firm
    assert ran.rated(Rating(MicroDollars(1), "list/1")).key_organisation_id == firm
    assert entry.counts.input_tokens == 1200
    assert entry.counts.cache_read_tokens == 1000
    assert entry.place == Place("chat", EPOCH, "usage.recorded.pro", 7)
    assert entry.occurred_at == NOON


def test_an_entrys_time_is_utc() -> None:
    fact = a_usage(at=datetime(2026, 11, 24, 14, tzinfo=timezone(timedelta(hours=2))))
    assert Entry.reported(fact).occurred_at == NOON
    assert Entry.reported(fact).occurred_at.tzinfo is UTC


def test_an_event_that_no_relay_numbered_has_no_place() -> None:
    assert an_entry().place is None


@pytest.mark.parametrize(
    "fact",
    [
        a_usage(id_=uuid4()),
        a_usage(id_=UUID(int=0)),
        a_usage(sequence=0),
        a_usage(sequence=-1),
        a_usage(sequence=2**62),
        a_usage(at=datetime(1, 1, 1, tzinfo=UTC)),
        a_usage(at=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))),
    ],
    ids=lambda fact: "",
)
def test_what_can_not_be_true_is_refused(fact: Fact[UsageRecorded]) -> None:
    with pytest.raises(UsageNotAcceptable):
        Entry.reported(fact)


@pytest.mark.parametrize("step", [timedelta(minutes=10), timedelta(days=3650)])
def test_a_clock_that_is_off_is_no_reason_to_refuse(step: timedelta) -> None:
    for moment in (NOON - step, NOON + step):
        assert Entry.reported(a_usage(id_=id_made_at(moment), at=moment)).occurred_at == moment


def test_the_largest_counts_are_accepted() -> None:
    entry = an_entry(input_tokens=MOST_UNITS, cache_read_tokens=0, output_tokens=MOST_UNITS)
    assert entry.counts.output_tokens == 10**12


def test_a_rating_changes_nothing_else_of_an_entry() -> None:
    entry = replace(
        an_entry(
            sequence=7,
            service_tier="flex",
            sandbox=True,
            session_id=uuid4(),
            provider_request_id="vendor-1",
            key_organisation_id=uuid4(),
        ),
        received_at=NOON + timedelta(seconds=1),
        rated_at=NOON + timedelta(seconds=2),
        unit="screenshot",
    )
    rating = Rating(MicroDollars(5), "v")
    assert entry.rated(rating) == replace(entry, rating=rating)


def test_an_unknown_rating_leaves_the_entry_as_it_is() -> None:
    entry = an_entry()
    assert entry.rated(None) is entry
    assert entry.rated(Rating(MicroDollars(5), "v")).rating == Rating(MicroDollars(5), "v")
