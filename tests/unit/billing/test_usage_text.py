"""Reading a batch of usage at once says what reading it event by event says, or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, get_args, get_type_hints
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.domain.errors import UsageNotAcceptable
from services.billing.domain.ledger import Entry
from services.billing.domain.usage_columns import UsageColumns
from services.billing.tasks import usage_text
from services.billing.tasks.usage_text import read_text
from services.chat.actions.settle_turn import usage_facts
from services.chat.domain.turn import Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.events.usage import UsageRecorded
from shared.ids import EventId, uuid7
from shared.messaging import batch as batches
from shared.messaging.subscriptions import Told
from tests.support.billing import EPOCH, a_speech, a_usage
from tests.support.chat_calls import a_hold

MISSING = object()
# What a careless or hostile producer might write, at any place of an envelope.
STRANGE: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 5.0, 1.5, 10**12, 10**12 + 1, 2**62, 2**62 - 1, 10**20, 1e400),
    *("", " ", "1", "-5", "true", "x" * 101, "x" * 201, "x" * 301, "1.0", "2.0", "chat", "done"),
    *(-0.0, 1e3, 2**53 + 1, -(2**63), 2**64 - 1, float("nan"), "\ud83d\ude00", "x" * 300),
    *("a,b", "{}", '"', "\\", "NULL", "None", "\u0663", "\u00e9", "\u0000", "usage.voided"),
    *("2026-11-24", "2026-11-24T12:00:00", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00+00:00"),
    *("2026-02-30T12:00:00+00:00", "2026-11-24T24:00:00+00:00", "2026-11-24T23:59:60+00:00"),
    *("0000-01-01T00:00:00+00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00"),
    *("2026-11-24T12:00:00.123+00:00", "2026-11-24T12:00:00.123456+01:00", "1764000000"),
    *("019a0000-0000-7000-8000-000000000000", "019A0000-0000-7000-8000-000000000000"),
    *("019a0000000070008000000000000000", "{019a0000-0000-7000-8000-000000000000}"),
    *("019a0000-0000-7000-8000-00000000000g", "-19a0000-0000-7000-8000-0000000000-0"),
    *("019a0000-0000-4000-8000-000000000000", "019a0000-0000-7000-0000-000000000000"),
    *([], {}, [1], {"a": 1}, {"a": [{"b": None}]}, MISSING),
)
ENVELOPE = tuple(a_usage(sequence=1).to_wire())
DATA = tuple(a_usage().to_wire()["data"])
PLACES = [(name,) for name in (*ENVELOPE, "traceparent", "unheard")] + [
    ("data", name) for name in (*DATA, "unheard")
]


def one_by_one(envelopes: Sequence[Any]) -> UsageColumns | None:
    """The same batch by the schema; None when something in it is refused."""
    facts, dead = batches.read(envelopes)
    if dead or any(fact.event.type != "usage.recorded" for fact in facts):
        return None
    try:
        return UsageColumns.of([Entry.reported(fact) for fact in facts])  # type: ignore[arg-type]
    except UsageNotAcceptable:
        return None


def same(one: UsageColumns, other: UsageColumns) -> bool:
    def values(usage: UsageColumns) -> list[Any]:
        columns = [list(getattr(usage, name)) for name in UsageColumns.__slots__]
        times = UsageColumns.__slots__.index("occurred_at")
        columns[times] = [datetime.fromisoformat(at) for at in columns[times]]
        return columns

    return values(one) == values(other)


def written(*places: tuple[Any, ...], value: Any) -> list[dict[str, Any]]:
    """A batch of four good events of which one has another value at some places."""
    batch = [a_usage(sequence=n, session_id=uuid4()).to_wire() for n in (1, 2, 4)]
    batch.append(a_speech(sequence=9, provider_request_id="it's {, \"").to_wire())
    for *path, name in places:
        spot: Any = batch[1]
        for step in path:
            spot = spot[step] if isinstance(spot, dict) and isinstance(spot.get(step), dict) else {}
        if value is MISSING:
            spot.pop(name, None)
        else:
            spot[name] = deepcopy(value)
    return batch


def text_of(envelopes: Sequence[Any]) -> str:
    """As a relay writes them."""
    return orjson.dumps(envelopes, option=orjson.OPT_SORT_KEYS).decode()


_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def a_batch() -> list[dict[str, Any]]:
    """Of several users and kinds, with all that an event may hold."""
    calls = [a_usage(sequence=number) for number in range(1, 5)]
    calls.append(a_speech(sequence=5, session_id=uuid4(), provider_request_id="msg_1"))
    calls.append(a_usage(sequence=9, key_organisation_id=uuid4(), service_tier="flex/us"))
    calls.append(a_usage(sequence=10, sandbox=True, cached=True, tier="enterprise"))
    calls.append(a_usage(sequence=11, model='mod\u00e8le "\U0001f600"\n'))
    return [call.to_wire() for call in calls]


def assert_read_alike(text: str, told: Told[UsageColumns]) -> None:
    envelopes = json.loads(text)
    rows = one_by_one(envelopes)
    assert rows is not None, text
    assert same(told.batch, rows), text
    assert told.count == len(envelopes)
    assert list(told.traces) == [one.get("traceparent") for one in envelopes]
    named = [one.get("correlationid") for one in envelopes]
    assert list(told.requests) == [one for one in named if one]


def test_what_our_producers_write_is_read_at_once() -> None:
    batch = a_batch()
    batch[0]["traceparent"] = _TRACE
    batch[1]["subject"] = str(uuid4())
    del batch[2]["correlationid"]
    batch[3]["time"] = "2026-11-24T12:00:00+00:00"
    # In another order of names, and with blanks and escapes, too.
    for text in (text_of(batch), json.dumps(batch[::-1], indent=1)):
        told = read_text(text)
        assert told is not None
        assert_read_alike(text, told)
        assert told.oldest == min((one["time"], one["tier"]) for one in batch)


def test_it_knows_every_field_of_the_schema() -> None:
    data = get_type_hints(usage_text._Usage, include_extras=True)
    assert data.keys() == UsageRecorded.model_fields.keys()
    envelope = get_type_hints(usage_text._Envelope)
    assert envelope.keys() <= {*ENVELOPE, "traceparent"}
    assert get_args(envelope["type"]) == (UsageRecorded.type,)
    assert get_args(envelope["dataschema"]) == (a_usage().to_wire()["dataschema"],)


@pytest.mark.parametrize("names", [("cached", "key_organisation_id"), ("unheard",)])
def test_an_older_and_a_younger_producers_batch_is_read_at_once(names: tuple[str, ...]) -> None:
    batch = a_batch()
    for name in names:
        if batch[0]["data"].pop(name, MISSING) is MISSING:
            batch[0]["data"][name] = {"of": [1, None]}
            batch[0][name] = "of the envelope"
    told = read_text(text_of(batch))
    assert told is not None
    assert_read_alike(text_of(batch), told)


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_any_strange_value_is_read_as_the_schema_reads_it_or_left_to_it(
    place: tuple[str, ...],
) -> None:
    for value in STRANGE:
        # Also as no relay can write it: with numbers beyond 64 bits, or none.
        text = json.dumps(written(place, value=value), sort_keys=True)
        told = read_text(text)
        if told is not None:
            assert_read_alike(text, told)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(PLACES), max_size=3),
    st.one_of(st.text(max_size=310), st.integers(), st.floats(), st.datetimes().map(str)),
)
def test_the_two_ways_of_reading_never_differ(places: list[tuple[str, ...]], value: Any) -> None:
    text = json.dumps(written(*places, value=value))
    told = read_text(text)
    if told is not None:
        assert_read_alike(text, told)


_TEXT = text_of(a_batch())


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_text_with_anything_else_in_it_is_read_as_its_json_or_not_at_all(
    data: st.DataObject,
) -> None:
    text = _TEXT
    signs = st.sampled_from(
        ["", "0", "1", "-", ".", "e", "g", "T", '"', "\\", ",", "{", "}", "[", "\u00e9", " ", "\0"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        cut = data.draw(st.integers(0, 2))
        text = text[:at] + data.draw(signs) + text[at + cut :]
    told = read_text(text)
    if told is not None:
        assert_read_alike(text, told)


@pytest.mark.parametrize(
    "change",
    [
        ('"producerseq":1,', '"producerseq":7,"producerseq":1,'),
        ('"input_tokens":1200,', '"input_tokens":1,"input_tokens":1200,'),
        ('"input_tokens":1200,', '"input_tokens":-0,'),
        ('"data":{', '"data":{"unheard":1e999,"unheard":[{}],'),
        ('"model":"', '"model":"\\u0000\\ud83d\\ude00'),
        ('"specversion":"1.0"', '"specversion":"1\\u002e0"'),
    ],
)
def test_what_json_allows_is_read_alike(change: tuple[str, str]) -> None:
    text = _TEXT.replace(*change, 1)
    assert text != _TEXT
    told = read_text(text)
    assert told is not None
    assert_read_alike(text, told)


@pytest.mark.parametrize(
    "change",
    [
        ('"producerseq":1,', '"producerseq":01,'),
        ('"producerseq":1,', '"producerseq":0,'),
        ('"producerseq":1,', '"producerseq":1.0,'),
        ('"producerseq":1,', '"producerseq":null,'),
        ('"producerseq":1,', '"producerseq":4611686018427387904,'),
        ('"input_tokens":1200,', '"input_tokens":1000000000001,'),
        ('"input_tokens":1200,', '"input_tokens":"1200",'),
        ('"input_tokens":1200,', '"input_tokens":true,'),
        ('"input_tokens":1200,', '"input_tokens":-1,"input_tokens":1200,'),
        ('"input_tokens":1200,', f'"input_tokens":{"9" * 5000},'),
        ('"model":"', '"model":"\\ud83d'),
        ('"specversion":"1.0"', '"specversion":"1_0"'),
        ("usage.recorded:1", "usage.recorded:2"),
        ('"type":"usage.recorded"', '"type":"usage.voided"'),
        ("[{", "[,{"),
        ("}]", "},]"),
        ("}]", "}]]"),
    ],
)
def test_what_is_not_written_so_is_left_to_the_schema(change: tuple[str, str]) -> None:
    assert read_text(_TEXT) is not None
    text = _TEXT.replace(*change, 1)
    assert text != _TEXT
    assert read_text(text) is None


@pytest.mark.parametrize("field", ["id", "subject", "producerepoch", "user_id", "session_id"])
def test_an_id_with_its_dashes_elsewhere_is_none(field: str) -> None:
    signs = uuid7().hex + "0000"
    for dashes in ((8, 13, 18, 22), (8, 13, 18, 24), (0, 13, 18, 23), (8, 13, 18), (8, 12, 13, 18)):
        text = "".join("-" if place in dashes else sign for place, sign in enumerate(signs))
        batch = a_batch()
        place = batch[4]["data"] if field in batch[4]["data"] else batch[4]
        place[field] = text
        assert read_text(text_of(batch)) is None


def test_an_id_of_another_version_is_left_to_the_schema() -> None:
    for other in (UUID(int=4), uuid4(), UUID(f"{str(uuid7())[:19]}7{str(uuid7())[20:]}")):
        batch = a_batch()
        batch[0]["id"] = str(other)
        assert read_text(text_of(batch)) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "[", "{}", "null", "[{}]", "[1]", "[null]", "[[]]", "x"]
)
def test_what_holds_no_usage_is_not_read(text: str) -> None:
    assert read_text(text) is None


def test_each_call_that_chat_tells_of_is_taken() -> None:
    aside = Usage(input_tokens=90_000, output_tokens=3_000)
    usage = Usage(input_tokens=200_000, output_tokens=6_700, asides=(aside, aside))
    hold = a_hold(usage_event_id=EventId(uuid7()))
    settlement = Settlement(Outcome.DONE, "", usage, "anthropic", "claude-haiku-5-5", "msg_1", 12)
    facts = usage_facts(hold, settlement, sandbox=False)
    told = read_text(text_of([one.sent_as(EPOCH, n).to_wire() for n, one in enumerate(facts, 1)]))
    assert told is not None
    assert len(set(told.batch.event_id)) == 3
    assert sum(told.batch.input_tokens) == 200_000
    assert [Entry.reported(fact).event_id for fact in facts] == [fact.id for fact in facts]
    # In the ledger they lie where the first one lies, whenever they are told.
    assert {fact.id.int >> 80 for fact in facts} == {hold.usage_event_id.int >> 80}
