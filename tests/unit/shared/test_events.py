"""The envelope: what goes out comes back, and what is hostile is told to be unreadable."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events import CATALOGUE, Event, Fact, UnreadableEvent
from shared.events.base import current_request_id, current_traceparent
from shared.events.key import KeyRevoked
from shared.events.subscription import SubscriptionChanged
from shared.events.usage import UsageManifest, UsageRecorded
from shared.events.user import UserRegistered
from shared.ids import EventId, uuid7

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def events(class_: type[Event]) -> st.SearchStrategy[Event]:
    """Hypothesis reads the bounds of a field from its annotation, and not its pattern: of that it
    would warn as soon as it comes to draw such an event."""
    patterns = {
        name: st.from_regex(constraint.pattern.strip("^$"), fullmatch=True)
        for name, field in class_.model_fields.items()
        for constraint in field.metadata
        if getattr(constraint, "pattern", None)
    }
    return st.builds(class_, **patterns)


# Built from each class's own annotations, so that a new event is tested unasked.
FACTS = st.sampled_from(sorted(CATALOGUE, key=str)).flatmap(
    lambda type_: st.builds(
        Fact,
        event=events(CATALOGUE[type_]),
        subject=st.uuids(),
        tier=st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True),
        id=st.builds(uuid7),
        time=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        source=TEXT,
        request_id=st.none() | TEXT,
        traceparent=st.none() | TEXT,
        epoch=st.none() | st.uuids(),
        sequence=st.none() | st.integers(1, 2**62),
    )
)


def a_fact() -> Fact[KeyRevoked]:
    event = KeyRevoked(user_id=uuid4(), key_id=uuid4(), provider="openai", key_version=3)
    return Fact(event=event, subject=event.user_id, tier="pro", source="keyvault")


def a_wire(**changes: Any) -> dict[str, Any]:
    wire = a_fact().sent_as(uuid4(), 7).to_wire() | changes
    return {name: value for name, value in wire.items() if value is not ...}


@pytest.mark.parametrize("type_", sorted(CATALOGUE))
@given(data=st.data())
@settings(max_examples=5)
def test_any_event_can_be_made_up(type_: str, data: st.DataObject) -> None:
    assert data.draw(events(CATALOGUE[type_])).type == type_


@given(fact=FACTS)
def test_what_goes_out_comes_back(fact: Fact[Event]) -> None:
    assert Fact.from_wire(json.loads(json.dumps(fact.to_wire()))) == fact


def test_the_envelope_is_a_cloud_event() -> None:
    fact = a_fact().sent_as(uuid4(), 7)
    assert fact.to_wire() == {
        "specversion": "1.0",
        "id": str(fact.id),
        "source": "keyvault",
        "type": "key.revoked",
        "subject": str(fact.subject),
        "time": fact.time.isoformat(),
        "datacontenttype": "application/json",
        "dataschema": "urn:companion:event:key.revoked:1",
        "tier": "pro",
        "producerepoch": str(fact.epoch),
        "producerseq": 7,
        "data": fact.event.model_dump(mode="json"),
    }


def test_a_stream_is_a_type_and_a_tier() -> None:
    assert a_fact().stream == "key.revoked.pro"


def test_a_fact_remembers_the_request_that_it_comes_from() -> None:
    request, trace = current_request_id.set("request-77"), current_traceparent.set("00-1")
    try:
        fact = a_fact()
    finally:
        current_request_id.reset(request)
        current_traceparent.reset(trace)
    assert (fact.request_id, fact.traceparent) == ("request-77", "00-1")
    assert fact.to_wire()["correlationid"] == "request-77"


def test_numbers_are_given_when_it_is_sent() -> None:
    fact, epoch = a_fact(), uuid4()
    sent = fact.sent_as(epoch, 9)
    assert (fact.sequence, sent.sequence, sent.epoch, sent.id) == (None, 9, epoch, fact.id)


def test_an_old_reader_reads_a_newer_event() -> None:
    wire = a_wire(unheard="attribute")
    wire["data"] |= {"a_field_of_next_year": [1, 2]}
    assert isinstance(Fact.from_wire(wire).event, KeyRevoked)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "key.unheard"},
        {"type": "subscription.changed"},
        {"dataschema": "urn:companion:event:key.revoked:2"},
        {"dataschema": ""},
        {"specversion": "2.0"},
        {"id": "77"},
        {"time": "2030-01-01T00:00:00"},
        {"time": "yesterday"},
        {"subject": "ada"},
        {"tier": "free\n"},
        {"tier": "a.b"},
        {"tier": "#"},
        {"tier": ""},
        {"tier": None},
        {"source": None},
        {"source": "x" * 1000},
        {"correlationid": {}},
        {"correlationid": "x" * 1000},
        {"traceparent": 5},
        {"producerepoch": []},
        {"producerseq": "7"},
        {"producerseq": 0},
        {"producerseq": -1},
        {"producerseq": 1.5},
        {"producerseq": True},
        {"producerseq": float("inf")},
        {"producerseq": float("nan")},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": {"user_id": "x"}},
    ],
)
def test_a_hostile_envelope_is_unreadable(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableEvent):
        Fact.from_wire(a_wire(**changes))


@pytest.mark.parametrize("name", [name for name in a_wire() if not name.startswith("producer")])
def test_an_envelope_that_lacks_an_attribute_is_unreadable(name: str) -> None:
    wire = a_wire(**{name: ...})
    if name == "datacontenttype":
        assert Fact.from_wire(wire)
        return
    with pytest.raises(UnreadableEvent):
        Fact.from_wire(wire)


@pytest.mark.parametrize("wire", [None, [], "text", 5, True, {}, [[]]])
def test_what_is_no_envelope_is_unreadable(wire: Any) -> None:
    with pytest.raises(UnreadableEvent):
        Fact.from_wire(wire)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(name=st.sampled_from(sorted(a_wire())), value=JSON)
def test_any_attribute_is_read_or_unreadable(name: str, value: Any) -> None:
    try:
        fact = Fact.from_wire(a_wire(**{name: value}))
    except UnreadableEvent as error:
        assert str(error)
    else:
        assert Fact.from_wire(fact.to_wire()) == fact


def test_the_reason_tells_the_place_and_never_the_value() -> None:
    wire = a_wire()
    wire["data"]["key_version"] = "hunter-two"
    with pytest.raises(UnreadableEvent) as caught:
        Fact.from_wire(wire)
    assert str(caught.value) == "data off its schema at: key_version"
    assert "hunter-two" not in str(caught.value.__cause__)


def test_a_type_declared_twice_fails_at_import() -> None:
    with pytest.raises(TypeError, match=r"'key\.revoked' is declared twice"):

        class Again(Event):
            type = "key.revoked"

    assert CATALOGUE["key.revoked"] is KeyRevoked


def test_events_are_facts_and_do_not_change() -> None:
    event = UserRegistered(user_id=uuid4())
    with pytest.raises(ValueError, match="frozen"):
        setattr(event, "user_id", uuid4())  # noqa: B010


@pytest.mark.parametrize(
    "build",
    [
        lambda: UsageManifest(producer="a", stream="b", epoch=uuid4(), last_sequence=-1),
        lambda: SubscriptionChanged(user_id=uuid4(), tier_name="pro", seats=0, revision=1),
        lambda: SubscriptionChanged(user_id=uuid4(), tier_name="pro", seats=1, revision=0),
        lambda: a_usage(input_tokens=-1),
        lambda: a_usage(operation="guess"),
    ],
)
def test_an_event_that_cannot_be_is_not_made(build: Any) -> None:
    with pytest.raises(ValueError):
        build()


def a_usage(**fields: Any) -> UsageRecorded:
    return UsageRecorded.model_validate(
        {
            "user_id": uuid4(),
            "operation": "chat",
            "provider": "openai",
            "model": "m",
            "source": "provider",
            "outcome": "done",
            "request_id": "r",
            **fields,
        }
    )


def test_only_facts_that_nobody_needs_yet_may_go_unheard() -> None:
    unheard = {type_ for type_, event in CATALOGUE.items() if not event.needs_listener}
    assert unheard == {
        *("user.registered", "seat.assigned", "seat.released", "usage.reported", "limit.refused"),
    }


def test_ids_of_events_are_ordered_in_time() -> None:
    first, second = a_fact(), a_fact()
    assert EventId(first.id) < second.id
    assert isinstance(first.id, UUID)
