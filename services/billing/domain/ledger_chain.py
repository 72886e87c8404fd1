"""The chains that make the ledger show what was changed in it behind our back.

    link = SHA-256(link before ‖ kind ‖ digest of the record)
    digest = SHA-256(the record's fields as PostgreSQL's binary form of a record has them)

There is a chain for each UTC day, by the time in the entries' ids, hence whole chains for each
partition, and one for all corrections. An entry that was rated on its way in has one link over its
facts and its rating; one of unknown price has a link over its facts, and another over its rating
once it has that. Of an entry all is covered but `cached`, a younger note beside counts that are: an
entry that is rated as cached says so by its price version, too. `key_organisation_id` is younger as
well, and covered where it is set: links of before it was known hold as they are, and none holds for
an entry that it was put into, or taken out of, later.

A mark is the letter of a record's kind and its digest. Those of new entries are made as they come
in, while their values are at hand; of all other records the database makes digests.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from shared.chain import Head
from shared.values import dataclass

CORRECTIONS = -1
"""The chain of the corrections; all others are numbered by days since 1970."""

ENTRY_FIELDS = (
    ("event_id", "uuid"),
    ("user_id", "uuid"),
    ("tier", "text"),
    ("operation", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("source", "text"),
    ("outcome", "text"),
    ("input_tokens", "bigint"),
    ("cache_read_tokens", "bigint"),
    ("cache_write_tokens", "bigint"),
    ("output_tokens", "bigint"),
    ("output_reasoning_tokens", "bigint"),
    ("characters", "bigint"),
    ("units", "bigint"),
    ("unit", "text"),
    ("service_tier", "text"),
    ("request_id", "text"),
    ("provider_request_id", "text"),
    ("session_id", "uuid"),
    ("sandbox", "boolean"),
    ("producer", "text"),
    ("producer_epoch", "uuid"),
    ("stream", "text"),
    ("sequence", "bigint"),
    ("occurred_at", "timestamptz"),
    ("received_at", "timestamptz"),
)
RATING_FIELDS = (
    ("cost_microusd", "bigint"),
    ("price_version", "text"),
    ("rated_at", "timestamptz"),
)
CORRECTION_FIELDS = (
    ("id", "uuid"),
    ("event_id", "uuid"),
    ("kind", "text"),
    ("user_id", "uuid"),
    ("requests", "bigint"),
    ("unpriced_requests", "bigint"),
    ("input_tokens", "bigint"),
    ("cache_read_tokens", "bigint"),
    ("cache_write_tokens", "bigint"),
    ("output_tokens", "bigint"),
    ("output_reasoning_tokens", "bigint"),
    ("characters", "bigint"),
    ("cost_microusd", "bigint"),
    ("reason", "text"),
    ("made_by", "uuid"),
    ("source", "text"),
    ("made_at", "timestamptz"),
    ("provider", "text"),
    ("model", "text"),
    ("operation", "text"),
    ("sandbox", "boolean"),
    ("occurred_at", "timestamptz"),
)
# The last field of an entry's digest, where the entry has it.
KEY_FIELD = ("key_organisation_id", "uuid")
# One letter for each kind of record, with the fields that its link covers.
ENTRY, RATED_ENTRY, RATING, CORRECTION = "e", "r", "l", "c"
COVERED = {
    ENTRY: ENTRY_FIELDS,
    RATED_ENTRY: (*ENTRY_FIELDS, *RATING_FIELDS),
    RATING: (("event_id", "uuid"), *RATING_FIELDS),
    CORRECTION: CORRECTION_FIELDS,
}
ENTRIES = (ENTRY, RATED_ENTRY)

LINK_BYTES = 32
MARK_BYTES = 1 + LINK_BYTES
OIDS = {"boolean": 16, "bigint": 20, "text": 25, "timestamptz": 1184, "uuid": 2950}
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLISECONDS_A_DAY = 86_400_000
_LAST_DATE = (date.max - date(1970, 1, 1)).days


def chain_of(event_id: UUID) -> int:
    """The chain that an entry of this id belongs to."""
    return (event_id.int >> 80) // _MILLISECONDS_A_DAY


def _first_int(chain: int) -> int:
    """No id of that day or of a later one is lower."""
    return chain * _MILLISECONDS_A_DAY << 80


def chain_on(day: date) -> int:
    """The chain of a day."""
    return (day - date(1970, 1, 1)).days


def chain_name(chain: int) -> str:
    """How people call it: by its day, where the calendar goes that far."""
    if chain == CORRECTIONS:
        return "corrections"
    return str(date(1970, 1, 1) + timedelta(days=chain)) if chain <= _LAST_DATE else f"day {chain}"


def genesis(chain: int) -> Head:
    """What the first link of a chain follows: no two chains begin alike."""
    return Head(0, hashlib.sha256(f"companion.billing.ledger.1:{chain}".encode()).digest())


def digest(kind: str, record: Mapping[str, Any]) -> bytes:
    """The digest of a record, worked out here: what the database says of it is not asked."""
    fields = COVERED[kind]
    if kind in ENTRIES and record.get(KEY_FIELD[0]) is not None:
        fields = (*fields, KEY_FIELD)
    parts = [struct.pack("!i", len(fields))]
    for name, type_ in fields:
        value = _binary(type_, record[name])
        head = struct.pack("!Ii", OIDS[type_], -1 if value is None else len(value))
        parts += [head, value or b""]
    return hashlib.sha256(b"".join(parts)).digest()


def _binary(type_: str, value: Any) -> bytes | None:
    if value is None:
        return None
    if type_ == "uuid":
        return UUID(str(value)).bytes
    if type_ == "text":
        return str(value).encode()
    if type_ == "boolean":
        return b"\x01" if value else b"\x00"
    number = (value - _EPOCH) // _MICROSECOND if type_ == "timestamptz" else int(value)
    return struct.pack("!q", number)


def link(before: bytes, kind: str, record_digest: bytes) -> bytes:
    """The link that ties a record to the one before."""
    return hashlib.sha256(before + kind.encode() + record_digest).digest()


@dataclass(frozen=True, slots=True)
class Digests:
    """Records that wait for their links: a letter, an id and `LINK_BYTES` of `digests` for each."""

    kinds: str
    ids: Sequence[UUID]
    digests: bytes

    def by_chain(self) -> dict[int, Digests]:
        """Entries in the order of their ids, those of each day together."""
        chains: dict[int, Digests] = {}
        start = 0
        while start < len(self.ids):
            chain = chain_of(self.ids[start])
            end = bisect_left(self.ids, _first_int(chain + 1), lo=start, key=attrgetter("int"))
            chains[chain] = self._cut(start, end)
            start = end
        return chains

    @property
    def marks(self) -> bytes:
        """Letter and digest of each, in their order."""
        places = range(0, len(self.digests), LINK_BYTES)
        digests = [self.digests[place : place + LINK_BYTES] for place in places]
        parts = zip(self.kinds, digests, strict=True)
        return b"".join([kind.encode() + digest_ for kind, digest_ in parts])

    def _cut(self, start: int, end: int) -> Digests:
        bytes_ = self.digests[start * LINK_BYTES : end * LINK_BYTES]
        return Digests(self.kinds[start:end], self.ids[start:end], bytes_)


@dataclass(frozen=True, slots=True)
class Links:
    """A run of links of one chain."""

    chain: int
    first: int
    kinds: str
    ids: Sequence[UUID]
    links: bytes

    @property
    def head(self) -> Head:
        return Head(self.first + len(self.ids) - 1, self.links[-LINK_BYTES:])

    def link(self, place: int) -> bytes:
        return self.links[place * LINK_BYTES : (place + 1) * LINK_BYTES]

    @property
    def fits_itself(self) -> bool:
        return len(self.ids) == len(self.kinds) and len(self.links) == LINK_BYTES * len(self.ids)


@dataclass(frozen=True, slots=True)
class MarkedLinks:
    """A run of links of one chain over batches whose ids only the database has at hand."""

    chain: int
    first: int
    kinds: str
    links: bytes

    @property
    def head(self) -> Head:
        return Head(self.first + len(self.kinds) - 1, self.links[-LINK_BYTES:])


def continued(chain: int, head: Head, records: Sequence[Digests]) -> Links:
    """Links for these records, in this order."""
    run = marked_on(chain, head, (some.marks for some in records))
    ids = [id_ for some in records for id_ in some.ids]
    return Links(chain, run.first, run.kinds, ids, run.links)


def marked_on(chain: int, head: Head, batches: Iterable[bytes]) -> MarkedLinks:
    """Links for the records of these marks, in this order."""
    marks, links, before = b"".join(batches), [], head.mac
    for start in range(0, len(marks), MARK_BYTES):
        # What `link` does, for each of very many.
        before = hashlib.sha256(before + marks[start : start + MARK_BYTES]).digest()
        links.append(before)
    kinds = marks[::MARK_BYTES].decode()
    return MarkedLinks(chain, head.sequence + 1, kinds, b"".join(links))


@dataclass(frozen=True, slots=True)
class Broken:
    """The first record that does not fit, and what is wrong with it, as a sentence."""

    chain: int
    sequence: int | None
    id: UUID | None
    what: str


@dataclass
class ChainWalk:
    """Follows one chain from its first link on and stops at the first that does not fit."""

    chain: int
    known: Head | None = None
    """A head that was noted earlier, to be met again on the way."""
    head: Head = field(init=False)
    broken: Broken | None = None

    def __post_init__(self) -> None:
        self.head = genesis(self.chain)

    def follow(self, links: Links, records: Mapping[UUID, Mapping[str, Any]]) -> None:
        """Go on along a run of links, with the records that they name, as far as there are any."""
        if self.broken is None and (links.first != self.head.sequence + 1 or not links.fits_itself):
            self._break(None, f"Link {self.head.sequence + 1} is missing or unreadable.")
        for place, (kind, id_) in enumerate(zip(links.kinds, links.ids, strict=False)):
            if self.broken is not None:
                return
            self.step(kind, id_, records.get(id_), links.link(place))

    def step(self, kind: str, id_: UUID, record: Mapping[str, Any] | None, noted: bytes) -> None:
        """Go on by one link."""
        due = self.head.sequence + 1
        if kind not in COVERED:
            self._break(id_, f"Link {due} is of no known kind.")
        elif record is None:
            self._break(id_, f"Record {id_} of link {due} is missing.")
        elif link(self.head.mac, kind, digest(kind, record)) != noted:
            self._break(
                id_, f"Link {due} does not fit its record {id_}: one of them was changed, or moved."
            )
        else:
            self.head = Head(due, noted)
            self._meet()

    def finish(self) -> None:
        """There are no more links."""
        known = self.known
        if self.broken is None and known is not None and known.sequence > self.head.sequence:
            self._break(
                None,
                f"The end is cut off: the chain ends at link {self.head.sequence}, "
                f"and there was a link {known.sequence}.",
            )

    def _meet(self) -> None:
        known = self.known
        if known is None or known.sequence != self.head.sequence or known.is_same_place(self.head):
            return
        self._break(
            None,
            f"Link {known.sequence} is another one than was noted earlier: "
            "the chain was written anew up to there.",
        )

    def _break(self, id_: UUID | None, what: str) -> None:
        self.broken = Broken(self.chain, self.head.sequence + 1, id_, what)
