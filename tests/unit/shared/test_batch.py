"""The message on the bus: trusted only when its hash and count fit what it carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Event, Fact
from shared.events.user import UserRegistered
from shared.messaging import batch as batches
from shared.messaging.batch import (
    DeadLetter,
    UnreadableBatch,
    UnreadableBody,
    body_of,
    envelopes_of,
    events_text,
    read,
    read_body,
    to_wire,
)


def envelopes(count: int) -> list[dict[str, Any]]:
    epoch = uuid4()
    return [
        Fact(event=UserRegistered(user_id=uuid4()), subject=uuid4(), tier="free")
        .sent_as(epoch, number)
        .to_wire()
        for number in range(1, count + 1)
    ]


def read_all(batch: Any) -> tuple[list[Fact[Event]], list[DeadLetter]]:
    return read(envelopes_of(batch))


def a_batch(count: int = 3) -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(json.dumps(to_wire("auth", uuid4(), envelopes(count))))
    return wire


def test_what_goes_out_comes_back() -> None:
    sent = envelopes(5)
    facts, dead = read_all(json.loads(json.dumps(to_wire("auth", uuid4(), sent))))
    assert [fact.to_wire() for fact in facts] == [e | {"source": ""} for e in sent]
    assert dead == []


def test_the_wrapper_says_what_it_carries() -> None:
    epoch, sent = uuid4(), envelopes(5)
    wire = to_wire("auth", epoch, sent)
    assert (wire["producer"], wire["epoch"]) == ("auth", str(epoch))
    assert (wire["first_sequence"], wire["last_sequence"], wire["count"]) == (1, 5, 5)


def test_the_order_of_names_does_not_change_the_hash() -> None:
    wire = a_batch()
    wire["events"] = [dict(reversed(list(event.items()))) for event in wire["events"]]
    assert len(read_all(wire)[0]) == 3


def test_one_unreadable_envelope_does_not_take_the_others_with_it() -> None:
    sent = envelopes(3)
    sent[1]["type"] = "user.unheard"
    facts, dead = read_all(to_wire("auth", uuid4(), sent))
    assert [fact.sequence for fact in facts] == [1, 3]
    assert [(letter.body, letter.reason) for letter in dead] == [(sent[1], "unknown type")]


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2},
        {"count": "3"},
        {"count": None},
        {"sha256": "0" * 64},
        {"sha256": None},
        {"events": None},
        {"events": {}},
        {"events": "text"},
        {"events": []},
        {"events": [None, None, None]},
    ],
)
def test_a_wrapper_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnreadableBatch):
        read_all(a_batch() | change)


def test_a_changed_envelope_breaks_the_hash() -> None:
    wire = a_batch()
    wire["events"][1]["tier"] = "enterprise"
    with pytest.raises(UnreadableBatch, match="hash"):
        read_all(wire)


@pytest.mark.parametrize("value", ["\ud800", 2**70, -(2**70)])
def test_what_cannot_be_hashed_is_refused(value: Any) -> None:
    wire = a_batch()
    wire["events"][0]["odd"] = value
    with pytest.raises(UnreadableBatch):
        read_all(wire)


def test_envelopes_nested_without_end_are_refused() -> None:
    wire, deep = a_batch(), []  # type: ignore[var-annotated]
    for _ in range(500):
        deep = [deep]
    wire["events"][0]["odd"] = deep
    with pytest.raises(UnreadableBatch):
        read_all(wire)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(body=JSON)
def test_any_other_body_is_refused(body: Any) -> None:
    with pytest.raises(UnreadableBatch):
        read_all(body)


@given(name=st.sampled_from(sorted(a_batch())), value=JSON)
def test_any_field_is_ignored_or_refused(name: str, value: Any) -> None:
    wire = a_batch()
    harmless = {"batch_id", "producer", "epoch", "first_sequence", "last_sequence"}
    fits = name in harmless or value == wire[name]
    try:
        facts, dead = read_all(wire | {name: value})
    except UnreadableBatch:
        assert not fits
    else:
        assert (len(facts), dead) == (3, [])


def as_told(wire: Mapping[str, Any]) -> tuple[Any, bytes]:
    """The batch as who receives it reads it, with the body that it was read from."""
    body = body_of([[], {"batch": wire}, {"callbacks": None}])
    return read_body(body), body


def test_events_are_hashed_as_they_stand_in_their_message(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, body = as_told(to_wire("auth", uuid4(), envelopes(3)))
    monkeypatch.setattr(batches, "_digest", lambda _events: pytest.fail("written once more"))
    assert len(envelopes_of(batch, body)) == 3


def test_a_message_written_in_another_order_is_trusted_too() -> None:
    wire = to_wire("auth", uuid4(), envelopes(3))
    body = json.dumps([[], {"batch": wire}, {}]).encode()
    assert len(envelopes_of(read_body(body), body)) == 3


@pytest.mark.parametrize("digest", [None, "", 0, False, "0" * 64])
def test_whatever_stands_in_place_of_the_hash_is_refused(digest: Any) -> None:
    batch, body = as_told(to_wire("auth", uuid4(), envelopes(3)) | {"sha256": digest})
    for seen in (body, b"", b"[]", None):
        with pytest.raises(UnreadableBatch, match="hash"):
            envelopes_of(batch, seen)


def test_one_letter_changed_on_the_way_breaks_the_hash() -> None:
    _, body = as_told(to_wire("auth", uuid4(), envelopes(3)))
    changed = body.replace(b'"tier":"free"', b'"tier":"tree"', 1)
    assert changed != body
    with pytest.raises(UnreadableBatch, match="hash"):
        envelopes_of(read_body(changed), changed)


def a_body(wire: Mapping[str, Any], **others: Any) -> bytes:
    return body_of([[], {"batch": wire, **others}, {}])


def test_the_events_of_a_body_are_its_own_text() -> None:
    wire = a_batch(3)
    found = events_text(a_body(wire))
    assert found is not None
    assert json.loads(found.text) == wire["events"]
    assert found.number == 3


@pytest.mark.parametrize(
    "change",
    [{"sha256": "0" * 64}, {"sha256": None}, {"events": {}}, {"events": "text"}, {"events": None}],
)
def test_events_that_do_not_fit_their_hash_have_no_text(change: dict[str, Any]) -> None:
    assert events_text(a_body(a_batch() | change)) is None


def test_a_count_is_told_as_the_wrapper_has_it() -> None:
    found = events_text(a_body(a_batch(3) | {"count": "3"}))
    assert found is not None
    assert found.number == "3"


def test_events_elsewhere_in_a_body_are_not_taken_for_the_batchs() -> None:
    wire = a_batch(2)
    assert events_text(a_body(wire, a={"events": [1], "first_sequence": 1})) is None
    assert events_text(a_body({}, a=wire)) is None
    assert events_text(body_of([wire, {"batch": {"events": []}}, {}])) is None


def test_a_body_that_is_not_written_so_has_no_text() -> None:
    wire = a_batch(2)
    assert events_text(json.dumps([[], {"batch": wire}, {}]).encode()) is None
    assert events_text(a_body(wire).decode()) is None
    assert events_text(a_body(wire)[:-1]) is None
    assert events_text(b"") is None


def test_half_a_character_has_no_text() -> None:
    body = a_body(a_batch(2))
    begins = body.find(b'"events":') + len(b'"events":')
    ends = body.rfind(b',"first_sequence":')
    broken = b"[" + bytes([0xED, 0xA0, 0x80]) + body[begins + 1 : ends]
    digest = hashlib.sha256(body[begins:ends]).hexdigest().encode()
    other = hashlib.sha256(broken).hexdigest().encode()
    changed = (body[:begins] + broken + body[ends:]).replace(digest, other)
    assert events_text(changed) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"7",
        b'"abc"',
        b"\xff\xfe\x00",
        b'{"batch": ',
        b"[[], {}]",
        b"[{}, {}, {}]",
        b'[[], ["no", "names"], {}]',
        b"[" * 100_000,
    ],
)
def test_a_message_without_a_batch_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        read_body(body)


def test_what_only_pythons_reader_takes_is_a_batch_that_does_not_fit() -> None:
    batch = read_body(b'[[], {"batch": {"events": [NaN], "count": 1, "sha256": ""}}, {}]')
    with pytest.raises(UnreadableBatch, match="hash"):
        envelopes_of(batch)
    assert read_body(b"[[], {}, {}]") is None
