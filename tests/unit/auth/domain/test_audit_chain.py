"""The chain over the audit trail: what it shows, and that its bytes have one meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain.audit_chain import (
    GENESIS,
    ChainedEvent,
    ChainWalk,
    Head,
    Link,
    LinkedEvent,
    continued,
)
from shared.ids import uuid7

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEYS = {1: b"a" * 32, 2: b"b" * 32}


def an_event(number: int = 0, **parts: Any) -> ChainedEvent:
    event = ChainedEvent(uuid7(), NOON, "sign_in.begun", uuid7(), None, None, f'{{"n": {number}}}')
    return replace(event, **parts)


def a_chain(length: int = 5) -> list[LinkedEvent]:
    events = [an_event(number) for number in range(length)]
    return linked(continued(Head(), events, KEYS), events)


def linked(links: Sequence[Link], events: Sequence[ChainedEvent]) -> list[LinkedEvent]:
    return [LinkedEvent(link, event) for link, event in zip(links, events, strict=True)]


def walked(chain: Sequence[LinkedEvent], known: Head | None = None, page: int = 2) -> ChainWalk:
    walk = ChainWalk(KEYS, known)
    for start in range(0, len(chain), page):
        walk.follow(chain[start : start + page])
    walk.finish()
    return walk


_small = st.integers(0, 2)
_ids = st.one_of(st.none(), st.builds(UUID, int=_small))
_events = st.builds(
    ChainedEvent,
    id=st.builds(UUID, int=_small),
    at=st.builds(lambda us: NOON + timedelta(microseconds=us), _small),
    action=st.text("a.", min_size=1, max_size=2),
    user_id=_ids,
    actor_id=_ids,
    organisation_id=_ids,
    facts=st.dictionaries(st.text("a", max_size=1), st.text('a"', max_size=2), max_size=1).map(
        json.dumps
    ),
)


@settings(max_examples=500)
@given(_events, _events)
def test_two_events_have_the_same_bytes_only_if_they_are_the_same(
    one: ChainedEvent, other: ChainedEvent
) -> None:
    assert (one.canonical() == other.canonical()) == (one == other)


@given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=5), st.text(max_size=5))
def test_every_event_has_bytes(at: datetime, action: str, facts: str) -> None:
    assert an_event(at=at, action=_storable(action), facts=_storable(facts)).canonical()


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def test_a_field_does_not_flow_into_the_next() -> None:
    one, other = an_event(action="a", facts="bc"), an_event(action="ab", facts="c")
    assert replace(one, id=other.id, user_id=other.user_id).canonical() != other.canonical()


def test_an_untouched_chain_fits_and_ends_in_its_head() -> None:
    chain = a_chain()
    walk = walked(chain)
    assert walk.broken is None
    assert walk.head == Head(5, chain[-1].link.mac)


def test_an_empty_chain_fits() -> None:
    assert walked([]).head == Head(0, GENESIS)


def test_the_chain_goes_on_under_a_new_key() -> None:
    events = [an_event(number) for number in range(4)]
    old = continued(Head(), events[:2], {1: KEYS[1]})
    new = continued(Head(2, old[-1].mac), events[2:], KEYS)
    assert [link.key_version for link in (*old, *new)] == [1, 1, 2, 2]
    assert walked(linked([*old, *new], events)).broken is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": UUID(int=1)},
        {"at": NOON + timedelta(microseconds=1)},
        {"action": "sign_in.ended"},
        {"user_id": None},
        {"actor_id": UUID(int=1)},
        {"organisation_id": UUID(int=1)},
        {"facts": '{"n": 7}'},
    ],
)
def test_a_changed_event_is_found_where_it_is(change: dict[str, Any]) -> None:
    chain = a_chain()
    event = chain[2].event
    assert event is not None
    chain[2] = LinkedEvent(chain[2].link, replace(event, **change))
    walk = walked(chain)
    assert walk.head.sequence == 2
    assert walk.broken is not None
    assert walk.broken.startswith("Link 3 does not fit its event")


def test_a_missing_event_is_named() -> None:
    chain = a_chain()
    chain[3] = LinkedEvent(chain[3].link, None)
    assert walked(chain).broken == f"Event {chain[3].link.event_id} of link 4 is missing."


@pytest.mark.parametrize("gone", [0, 2])
def test_a_missing_link_is_named(gone: int) -> None:
    chain = a_chain()
    del chain[gone]
    assert walked(chain).broken == f"Link {gone + 1} is missing: the next one is {gone + 2}."


def test_links_counted_anew_over_a_gap_do_not_fit() -> None:
    chain = a_chain()
    del chain[2]
    chain = [
        LinkedEvent(replace(one.link, sequence=number), one.event)
        for number, one in enumerate(chain, 1)
    ]
    broken = walked(chain).broken
    assert broken is not None
    assert broken.startswith("Link 3 does not fit")


def test_a_changed_order_is_told_from_a_changed_event() -> None:
    chain = a_chain()
    second, third = chain[2], chain[3]
    assert second.event is not None
    assert third.event is not None
    chain[2] = LinkedEvent(replace(second.link, event_id=third.event.id), third.event)
    chain[3] = LinkedEvent(replace(third.link, event_id=second.event.id), second.event)
    broken = walked(chain, page=10).broken
    assert broken == f"The order was changed: event {second.event.id} belongs to link 3."


def test_a_link_made_without_the_key_does_not_fit() -> None:
    chain = a_chain()
    event = an_event()
    mac = event.mac(chain[-1].link.mac, b"x" * 32)
    chain.append(LinkedEvent(Link(6, event.id, 2, mac), event))
    walk = walked(chain)
    assert walk.head.sequence == 5
    assert walk.broken is not None


def test_a_key_that_is_gone_is_named() -> None:
    chain = a_chain()
    chain[1] = LinkedEvent(replace(chain[1].link, key_version=9), chain[1].event)
    assert walked(chain).broken == "Link 2 needs audit key 9, which is not in the file."


def test_a_cut_end_is_found_by_an_earlier_head_alone() -> None:
    chain = a_chain()
    noted = walked(chain).head
    assert walked(chain[:3]).broken is None
    broken = walked(chain[:3], known=noted).broken
    assert broken == "The end is cut off: the chain ends at link 3, and there was a link 5."


def test_a_chain_that_was_cut_and_has_grown_again_is_found_by_an_earlier_head() -> None:
    chain = a_chain()
    noted = walked(chain).head
    events = [an_event(number) for number in range(7, 12)]
    grown = chain[:3] + linked(continued(Head(3, chain[2].link.mac), events, KEYS), events)
    assert walked(grown).broken is None
    broken = walked(grown, known=noted).broken
    assert broken is not None
    assert broken.startswith("Link 5 is another one than was noted earlier")


@pytest.mark.parametrize("page", [1, 3, 5, 6])
@pytest.mark.parametrize("at", range(6))
def test_an_earlier_head_of_the_same_chain_is_met(page: int, at: int) -> None:
    chain = a_chain()
    head = walked(chain[:at]).head
    assert walked(chain, known=head, page=page).broken is None
    wrong = Head(head.sequence, bytes(32))
    assert walked(chain, known=wrong, page=page).broken is not None


def test_a_head_comes_back_from_its_text() -> None:
    head = walked(a_chain()).head
    assert Head.parse(f" {head}\n") == head
    assert Head.parse(str(Head())) == Head()
    for wrong in ("", "5", "5:ab", f"05:{'a' * 64}", f"-1:{'a' * 64}", f"5:{'g' * 64}"):
        with pytest.raises(ValueError):
            Head.parse(wrong)
