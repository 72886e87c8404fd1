"""The chain that makes the audit trail show what was changed in it behind our back.

    MAC of a link = HMAC-SHA-256(audit key, MAC of the link before ‖ its event, in canonical bytes)

Whoever can write to the database but has no audit key can't make a link that fits. All they can do
unseen is to cut links off the end: so each new head goes into the log, which leaves the machine.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared import chain
from shared.sealing import newest
from shared.values import dataclass

GENESIS = hashlib.sha256(b"companion auth audit: before the first link").digest()
"""What the first link follows."""

_FORMAT = b"companion.auth.audit.1"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """An event as it stands in the trail, without what is personal and may be deleted.

    `facts` are JSON as PostgreSQL writes jsonb: one text for each value, whatever its size.
    """

    id: UUID
    at: datetime
    action: str
    user_id: UUID | None
    actor_id: UUID | None
    organisation_id: UUID | None
    facts: str

    def canonical(self) -> bytes:
        """Bytes that no other event has: each field with its length before it."""
        microseconds = (self.at - _EPOCH) // timedelta(microseconds=1)
        fields = (
            _FORMAT,
            self.id.bytes,
            microseconds.to_bytes(8, "big", signed=True),
            self.action.encode(),
            # Nobody's id is as long as somebody's, so none of them is taken for nobody.
            *(_id(one) for one in (self.user_id, self.actor_id, self.organisation_id)),
            self.facts.encode(),
        )
        return chain.joined(fields)

    def mac(self, previous: bytes, key: bytes) -> bytes:
        """The MAC of the link that ties this event to the one before."""
        return hmac.digest(key, previous + self.canonical(), "sha256")


def _id(one: UUID | None) -> bytes:
    return b"" if one is None else one.bytes


@dataclass(frozen=True, slots=True)
class Link:
    """One place in the chain."""

    sequence: int
    event_id: UUID
    key_version: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Head(chain.Head):
    """The last link of the trail; before there is any, what the first one follows."""

    sequence: int = 0
    mac: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far the chain is behind the trail."""

    length: int
    waiting: int
    longest_wait_seconds: float


def continued(head: Head, events: Sequence[ChainedEvent], keys: Mapping[int, bytes]) -> list[Link]:
    """Links for these events, in this order, made with the newest key."""
    version = newest(keys)
    links, previous = [], head.mac
    for sequence, event in enumerate(events, head.sequence + 1):
        previous = event.mac(previous, keys[version])
        links.append(Link(sequence, event.id, version, previous))
    return links


@dataclass(frozen=True, slots=True)
class LinkedEvent:
    """A link with the event that it names, if that is there."""

    link: Link
    event: ChainedEvent | None


@dataclass
class ChainWalk:
    """Follows the chain from its first link on and stops at the first that doesn't fit."""

    keys: Mapping[int, bytes] = field(repr=False)
    known: Head | None = None
    """A head that was noted earlier, to be met again on the way."""
    head: Head = field(default_factory=Head)
    broken: str | None = None
    """What is wrong, as a sentence."""

    def follow(self, page: Sequence[LinkedEvent]) -> None:
        """Go on along the next links."""
        for place, linked in enumerate(page):
            self._meet(self.head)
            if self.broken is None:
                self.broken = self._flaw(linked, page[place + 1 :])
            if self.broken is not None:
                return
            self.head = Head(linked.link.sequence, linked.link.mac)

    def finish(self) -> None:
        """There are no more links."""
        if self.broken is not None:
            return
        self._meet(self.head)
        if self.known is not None and self.known.sequence > self.head.sequence:
            self.broken = (
                f"The end is cut off: the chain ends at link {self.head.sequence}, "
                f"and there was a link {self.known.sequence}."
            )

    def _meet(self, head: Head) -> None:
        known = self.known
        if known is not None and known.sequence == head.sequence and not known.is_same_place(head):
            self.broken = (
                f"Link {head.sequence} is another one than was noted earlier: "
                "the chain was written anew up to there."
            )

    def _flaw(self, linked: LinkedEvent, later: Iterable[LinkedEvent]) -> str | None:
        link, event, due = linked.link, linked.event, self.head.sequence + 1
        if link.sequence != due:
            return f"Link {due} is missing: the next one is {link.sequence}."
        if event is None:
            return f"Event {link.event_id} of link {due} is missing."
        key = self.keys.get(link.key_version)
        if key is None:
            return f"Link {due} needs audit key {link.key_version}, which is not in the file."
        if hmac.compare_digest(event.mac(self.head.mac, key), link.mac):
            return None
        for other in _events(later):
            if hmac.compare_digest(other.mac(self.head.mac, key), link.mac):
                return f"The order was changed: event {other.id} belongs to link {due}."
        return (
            f"Link {due} does not fit its event {event.id}: "
            "the event was changed, or the link was made without the key."
        )


def _events(linked: Iterable[LinkedEvent]) -> Iterator[ChainedEvent]:
    return (one.event for one in linked if one.event is not None)
