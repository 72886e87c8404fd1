"""The marks that new entries are linked by, made where their values are at hand: PostgreSQL would
take twice as long to write and to hash them. What is hashed is a record in PostgreSQL's binary
form: the number of its fields, and for each its type, its length and its bytes
(`services/billing/domain/ledger_chain.py`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, repeat
from operator import gt
from struct import Struct
from typing import Any, NamedTuple

from services.billing.domain.ledger_chain import COVERED, ENTRY, KEY_FIELD, OIDS, RATED_ENTRY
from services.billing.domain.usage_columns import UsageColumns
from services.billing.storage.ledger_columns import COUNTS, SHARED
from services.billing.storage.ledger_copy import Raw, field_of, parts_of

_NUMBER = Struct("!i")
_TYPE = {name: _NUMBER.pack(oid) for name, oid in OIDS.items()}
_ID, _BIGINT, _MOMENT = (
    _TYPE[kind] + _NUMBER.pack(length)
    for kind, length in (("uuid", 16), ("bigint", 8), ("timestamptz", 8))
)
_FIELD, _TWO_FIELDS = Struct("!8sq"), Struct("!8sq8sq")
_COUNTED = Struct("!" + "8sq" * len(COUNTS))
_TEXTS = {"request_id": "text", "provider_request_id": "text", "session_id": "uuid"}
_KEY, _ = KEY_FIELD
_ROWS_REMEMBERED = 1_000
_MILLISECONDS_A_DAY = 86_400_000


def marks_of(usage: UsageColumns, raw: Raw) -> bytes | None:
    """The marks of usage that is written down as `raw` has it, each of `MARK_BYTES`, in the order
    of the entries' ids. None where these are of several days."""
    return _in_order(raw.event_id, _marks(usage, raw))


def _in_order(ids: Sequence[bytes], marks: Sequence[bytes]) -> bytes | None:
    if _day(min(ids)) != _day(max(ids)):
        return None
    # Most batches are in order as they come.
    if any(map(gt, ids, islice(ids, 1, None))):
        marks = [mark for _, mark in sorted(zip(ids, marks, strict=True))]
    return b"".join(marks)


def _day(raw_id: bytes) -> int:
    return int.from_bytes(raw_id[:6], "big") // _MILLISECONDS_A_DAY


def _marks(usage: UsageColumns, raw: Raw) -> list[bytes]:
    rows = zip(*(getattr(usage, name) for name in SHARED), strict=True)
    shared = zip(*map(_shared, rows), strict=True)
    letters, heads, names, units, producers, versions, keys = shared
    # From the first field to the last.
    records = zip(
        heads,
        raw.event_id,
        repeat(_ID),
        raw.user_id,
        names,
        map(_COUNTED.pack, *_counts(usage)),
        units,
        *_texts(usage),
        producers,
        _places(usage, raw),
        repeat(_FIELD.pack(_MOMENT, raw.received_at)),
        *_ratings(usage, versions, _FIELD.pack(_MOMENT, raw.rated_at)),
        keys,
        strict=False,
    )
    sha256 = hashlib.sha256
    hashed = zip(letters, map(b"".join, records), strict=True)
    return [letter + sha256(record).digest() for letter, record in hashed]


class _Shared(NamedTuple):
    """What entries have in common, cut where fields stand that each has of its own."""

    letter: bytes
    head: bytes
    names: bytes
    units: bytes
    producer: bytes
    version: bytes
    key: bytes


@lru_cache(_ROWS_REMEMBERED)
def _shared(row: tuple[Any, ...]) -> _Shared:
    values = dict(zip(SHARED, row, strict=True))

    def fields(*names: str) -> bytes:
        return b"".join(
            _TYPE[SHARED[name]] + field_of(SHARED[name], values[name]) for name in names
        )

    kind = ENTRY if values["price_version"] is None else RATED_ENTRY
    has_key = values[_KEY] is not None
    return _Shared(
        letter=kind.encode(),
        head=_NUMBER.pack(len(COVERED[kind]) + has_key) + _ID,
        names=fields("tier", "operation", "provider", "model", "source", "outcome"),
        units=fields("units", "unit", "service_tier"),
        producer=fields("sandbox", "producer", "producer_epoch", "stream"),
        version=fields("price_version") if kind == RATED_ENTRY else b"",
        key=fields(_KEY) if has_key else b"",
    )


def _counts(usage: UsageColumns) -> Iterator[Iterable[Any]]:
    for name in COUNTS:
        yield repeat(_BIGINT)
        yield getattr(usage, name)


def _texts(usage: UsageColumns) -> Iterator[Iterable[bytes]]:
    for name, kind in _TEXTS.items():
        yield repeat(_TYPE[kind])
        yield from parts_of(kind, getattr(usage, name))


def _places(usage: UsageColumns, raw: Raw) -> Iterable[bytes]:
    """The number within a stream, where there is one, and the moment of use."""
    if None not in usage.sequence:
        pack = _TWO_FIELDS.pack
        return map(pack, repeat(_BIGINT), usage.sequence, repeat(_MOMENT), raw.occurred_at)
    places = zip(usage.sequence, raw.occurred_at, strict=True)
    return [
        _TYPE["bigint"] + field_of("bigint", number) + _FIELD.pack(_MOMENT, moment)
        for number, moment in places
    ]


def _ratings(usage: UsageColumns, versions: Sequence[bytes], rated: bytes) -> list[Iterable[bytes]]:
    """Nothing of an entry that has none."""
    if None not in usage.cost_microusd:
        return [map(_FIELD.pack, repeat(_BIGINT), usage.cost_microusd), versions, repeat(rated)]
    ratings = zip(usage.cost_microusd, versions, strict=True)
    return [
        [
            b"" if cost is None else _FIELD.pack(_BIGINT, cost) + version + rated
            for cost, version in ratings
        ]
    ]
