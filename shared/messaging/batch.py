"""The message on the bus: a batch of envelopes of one stream, with what is needed to trust it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from shared.events import Event, Fact, UnreadableEvent
from shared.ids import uuid7
from shared.values import dataclass

# What stands on both sides of the events where all names are in their order.
_BEFORE_EVENTS, _AFTER_EVENTS = b'"events":', b',"first_sequence":'
_NO_EVENTS = b"[]"


class UnreadableBatch(Exception):
    """The wrapper is broken: its hash or its count does not fit what it carries."""


class UnreadableBody(Exception):
    """A message without a batch in it: no JSON, or not what Celery writes."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An envelope that could not be read, and why."""

    body: Any
    reason: str


def to_wire(producer: str, epoch: UUID, envelopes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Wrap envelopes, each of which already carries its epoch and sequence number."""
    return {
        "batch_id": str(uuid7()),
        "producer": producer,
        "epoch": str(epoch),
        "first_sequence": envelopes[0]["producerseq"],
        "last_sequence": envelopes[-1]["producerseq"],
        "count": len(envelopes),
        "sha256": _digest(envelopes),
        "events": list(envelopes),
    }


def read_body(body: bytes | str) -> Any:
    """The batch in a message's body, as the relay writes it: Celery's arguments, names and options.

    Raises UnreadableBody.
    """
    try:
        arguments, named, _options = _loads(body)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnreadableBody from error
    if not isinstance(arguments, list) or not isinstance(named, dict):
        raise UnreadableBody
    return named.get("batch")


def _loads(body: bytes | str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # It is stricter. What only Python's own reader takes is told apart by what comes next.
        return json.loads(body)


class EventsText(NamedTuple):
    """The JSON of a batch's events as it stands in its message, and how many they should be."""

    text: str
    number: object


def events_text(body: bytes | str) -> EventsText | None:
    """The events of a message's body as their text, whose hash fits.

    None where it is another body than `body_of` writes: `read_body` says what that is.
    """
    place = _place_of_events(body) if isinstance(body, bytes) else None
    if place is None:
        return None
    assert isinstance(body, bytes)
    begins, ends = place
    try:
        batch = read_body(b"".join((body[:begins], _NO_EVENTS, body[ends:])))
        # The wrapper's own events, and not others that stand somewhere else.
        if not isinstance(batch, dict) or batch["events"] != []:
            return None
        # Not copied for that: it is half a megabyte.
        text = memoryview(body)[begins:ends]
        if batch["sha256"] != hashlib.sha256(text).hexdigest():
            return None
        return EventsText(str(text, "utf-8"), batch["count"])
    except (UnreadableBody, UnicodeDecodeError, KeyError):
        return None


def envelopes_of(batch: Any, body: bytes | str | None = None) -> list[Any]:
    """What a batch carries, as it is. `body`: of the message it was read from, if that is known.

    Raises UnreadableBatch when the wrapper itself can't be trusted.
    """
    try:
        envelopes, count, digest = batch["events"], batch["count"], batch["sha256"]
    except (TypeError, KeyError) as error:
        raise UnreadableBatch("no wrapper") from error
    if not isinstance(envelopes, list) or count != len(envelopes):
        raise UnreadableBatch("the count does not fit")
    try:
        fits = _is_of_text(digest, body) or digest == _digest(envelopes)
    except TypeError as error:  # orjson's for a lone surrogate or a number beyond 64 bits
        raise UnreadableBatch("it can't be hashed") from error
    if not fits:
        raise UnreadableBatch("the hash does not fit")
    return envelopes


def read(envelopes: Sequence[Any]) -> tuple[list[Fact[Event]], list[DeadLetter]]:
    """The facts in these envelopes, and those that could not be read."""
    facts: list[Fact[Event]] = []
    dead: list[DeadLetter] = []
    for envelope in envelopes:
        try:
            facts.append(Fact.from_wire(envelope))
        except UnreadableEvent as error:
            dead.append(DeadLetter(envelope, str(error)))
    return facts, dead


def body_of(arguments: Sequence[Any]) -> bytes:
    """A message's body, with the events written in it as they are hashed: who reads it need not
    write them again to see that they fit.

    Raises TypeError for what orjson can't write: half a character, or a number beyond 64 bits.
    """
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)


def _is_of_text(digest: Any, body: bytes | str | None) -> bool:
    """Whether this is the hash of the events as they stand in a body of `body_of`."""
    place = _place_of_events(body) if isinstance(body, bytes) else None
    if place is None:
        return False
    begins, ends = place
    # Not copied: it is half a megabyte.
    text = memoryview(body)[begins:ends]  # type: ignore[arg-type]  # it is bytes
    return bool(digest == hashlib.sha256(text).hexdigest())


def _place_of_events(body: bytes) -> tuple[int, int] | None:
    begins, ends = body.find(_BEFORE_EVENTS), body.rfind(_AFTER_EVENTS)
    return None if begins < 0 or ends < 0 else (begins + len(_BEFORE_EVENTS), ends)


def _digest(envelopes: Any) -> str:
    return hashlib.sha256(orjson.dumps(envelopes, option=orjson.OPT_SORT_KEYS)).hexdigest()
