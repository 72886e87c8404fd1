"""New usage as rows of PostgreSQL's COPY, in its binary form: for each field its length and its
bytes (https://www.postgresql.org/docs/current/sql-copy.html). The server reads it for half of what
a statement with arrays costs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import add
from struct import Struct, unpack
from typing import Any, NamedTuple, Self

from services.billing.domain.usage_columns import UsageColumns
from services.billing.storage.ledger_columns import COUNTS, OWN, SHARED

# Never null and of one length: packed together. So are those after them, where none is null.
_IDS, _NUMBERS, _PERHAPS = ("event_id", "user_id"), tuple(COUNTS), ("sequence", "cost_microusd")
_PACKED = (*_IDS, *_NUMBERS, "occurred_at", *_PERHAPS)
# Of what is shared, at any rate: so that there is something.
_LOOKED_UP = "model"
_OTHERS = {name: kind for name, kind in OWN.items() if name not in _PACKED}
COLUMNS = (*_PACKED, *_OTHERS, *SHARED, "pricing_status", "rated_at", "received_at")

_HEAD, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_NULL, _LENGTH_OF_ID = b"\xff\xff\xff\xff", b"\0\0\0\x10"
_LENGTH, _BIGINT = Struct("!i"), Struct("!iq")
# The number of a row's fields stands before them.
_SURE = "!h" + "i16s" * len(_IDS) + "iq" * len(_NUMBERS) + "iq"
_FIXED, _FULL = Struct(_SURE), Struct(_SURE + "iq" * len(_PERHAPS))
_EPOCH, _MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_ZONE, _LENGTH_OF_TIME = "+00:00", len("2026-11-28T12:00:00.123456+00:00")
_TIME = "19sx6s6x"  # a second, and the six digits behind its point


class Raw(NamedTuple):
    """What is written of a batch more than once, as PostgreSQL has it."""

    event_id: Sequence[bytes]
    user_id: Sequence[bytes]
    occurred_at: Sequence[int]
    received_at: int
    rated_at: int

    @classmethod
    def of(cls, usage: UsageColumns, *, received_at: datetime, rated_at: datetime) -> Self:
        """Of usage that is received, and rated as far as it is, at these moments."""
        return cls(
            _raw_ids(usage.event_id),
            _raw_ids(usage.user_id),
            _moments(usage.occurred_at),
            _microseconds(received_at),
            _microseconds(rated_at),
        )


def rows_of(usage: UsageColumns, raw: Raw) -> bytes:
    """All of the batch, rated or of unknown price, in the order of its ids: two batches that share
    some never wait for each other in a circle."""
    others = [part for name in _OTHERS for part in parts_of(_OTHERS[name], getattr(usage, name))]
    received = repeat(_bigint(raw.received_at), len(usage.event_id))
    rows = zip(*_packed(usage, raw), *others, _shared(usage, raw.rated_at), received, strict=True)
    return b"".join([_HEAD, *sorted(map(b"".join, rows)), _END])


def _packed(usage: UsageColumns, raw: Raw) -> list[Iterable[bytes]]:
    """The fields of `_PACKED`: all at once, or those that may be null apart."""
    fields: list[Iterable[Any]] = [repeat(len(COLUMNS))]
    for ids in (raw.event_id, raw.user_id):
        fields += [repeat(16), ids]
    for name in _NUMBERS:
        fields += [repeat(8), getattr(usage, name)]
    fields += [repeat(8), raw.occurred_at]
    perhaps = [getattr(usage, name) for name in _PERHAPS]
    if any(None in values for values in perhaps):
        others = [part for values in perhaps for part in parts_of("bigint", values)]
        return [map(_FIXED.pack, *fields), *others]
    for values in perhaps:
        fields += [repeat(8), values]
    return [map(_FULL.pack, *fields)]


def _raw_ids(values: Sequence[str]) -> tuple[bytes, ...]:
    raw = bytes.fromhex("".join(values).replace("-", ""))
    return unpack("16s" * len(values), raw)


def _moments(values: Sequence[str]) -> list[int]:
    """Microseconds as PostgreSQL counts them. Events of a batch were written within few seconds."""
    joined = "".join(values)
    if len(joined) != _LENGTH_OF_TIME * len(values):  # a full second is written without a fraction
        return list(map(_moment, values))
    parts = unpack(_TIME * len(values), joined.encode())
    seconds = {second: _moment(second.decode() + _ZONE) for second in set(parts[::2])}
    return list(map(add, map(seconds.__getitem__, parts[::2]), map(int, parts[1::2])))


class _Written(dict[tuple[Any, ...], bytes]):
    """The fields that many rows have in common, written once for all of them."""

    def __init__(self, rated_at: int, alike: Mapping[str, Any], names: Sequence[str]) -> None:
        self._rated_at = rated_at
        self._alike = alike
        self._names = names

    def __missing__(self, values: tuple[Any, ...]) -> bytes:
        row = {**self._alike, **dict(zip(self._names, values, strict=True))}
        self[values] = fields = _shared_row(row, self._rated_at)
        return fields


def _shared(usage: UsageColumns, rated_at: int) -> Iterator[bytes]:
    # A message is of one stream, so most are the same in all of it: no row is looked up by those.
    alike: dict[str, Any] = {}
    others: dict[str, Sequence[Any]] = {}
    for name in SHARED:
        values = getattr(usage, name)
        if name != _LOOKED_UP and values.count(values[0]) == len(values):
            alike[name] = values[0]
        else:
            others[name] = values
    written = _Written(rated_at, alike, list(others))
    return map(written.__getitem__, zip(*others.values(), strict=True))


def _shared_row(row: Mapping[str, Any], rated_at: int) -> bytes:
    is_rated = row["price_version"] is not None
    fields = [field_of(kind, row[name]) for name, kind in SHARED.items()]
    fields.append(field_of("text", "rated" if is_rated else "unknown_price"))
    fields.append(field_of("bigint", rated_at if is_rated else None))
    return b"".join(fields)


def parts_of(kind: str, values: Sequence[Any]) -> list[Iterable[bytes]]:
    """The fields of a column, as one part of each row or two. Most have a value in each row or in
    none, and are then written without a call of ours for each."""
    missing = values.count(None)
    if missing == len(values):
        return [repeat(_NULL, missing)]
    if not missing and kind == "text":
        encoded = list(map(str.encode, values))
        return [map(_LENGTH.pack, map(len, encoded)), encoded]
    if not missing and kind == "uuid":
        return [repeat(_LENGTH_OF_ID, len(values)), _raw_ids(values)]
    return [[field_of(kind, value) for value in values]]


def field_of(kind: str, value: Any) -> bytes:
    """A value with its length before it."""
    return _NULL if value is None else _WRITE[kind](value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _id(value: str) -> bytes:
    return _LENGTH_OF_ID + bytes.fromhex(value.replace("-", ""))


def _bigint(value: int) -> bytes:
    return _BIGINT.pack(8, value)


def _moment(value: str) -> int:
    return _microseconds(datetime.fromisoformat(value))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _boolean(value: bool) -> bytes:
    return b"\0\0\0\x01\x01" if value else b"\0\0\0\x01\0"


_WRITE: dict[str, Callable[[Any], bytes]] = {
    "text": _text,
    "uuid": _id,
    "bigint": _bigint,
    "boolean": _boolean,
}
