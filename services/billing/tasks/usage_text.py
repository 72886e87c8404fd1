"""A batch of `usage.recorded`, read out of its text into columns.

Most of what a batch cost was the objects that its JSON became, and looking into them. Here each
event becomes one whose fields and types are known beforehand, and is checked while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder
from msgspec.structs import astuple

from services.billing.domain.ledger import LAST_SEQUENCE
from services.billing.domain.usage_columns import UsageColumns
from shared.events.usage import (
    LONGEST_TEXT,
    MOST_UNITS,
    Operation,
    Outcome,
    Source,
    UsageRecorded,
)
from shared.messaging.subscriptions import Told

_LENGTH_OF_ID = 36
_Id = Annotated[str, Meta(min_length=_LENGTH_OF_ID, max_length=_LENGTH_OF_ID)]
_Name = Annotated[str, Meta(max_length=LONGEST_TEXT)]
_Count = Annotated[int, Meta(ge=0, le=MOST_UNITS)]
_Trace = Annotated[str, Meta(max_length=200)]


class _Usage(Struct, kw_only=True, gc=False):
    """What `UsageRecorded` says. In the order of a relay, so that a field is where it is looked for
    first."""

    cache_read_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    cached: bool = False
    characters: _Count = 0
    input_tokens: _Count = 0
    key_organisation_id: _Id | None = None
    model: _Name
    operation: Operation
    outcome: Outcome
    output_reasoning_tokens: _Count = 0
    output_tokens: _Count = 0
    provider: _Name
    provider_request_id: _Name | None = None
    request_id: _Name
    sandbox: bool = False
    service_tier: _Name | None = None
    session_id: _Id | None = None
    source: Source
    user_id: _Id


class _Envelope(Struct, kw_only=True, gc=False):
    """What an envelope says that a relay has numbered."""

    correlationid: _Trace | None = None
    data: _Usage
    dataschema: Literal["urn:companion:event:usage.recorded:1"]
    id: _Id
    producerepoch: _Id
    producerseq: Annotated[int, Meta(ge=1, lt=LAST_SEQUENCE)]
    source: Annotated[str, Meta(max_length=100)]
    specversion: Literal["1.0"]
    subject: _Id
    tier: str
    time: str
    traceparent: _Trace | None = None
    type: Literal["usage.recorded"]


_BATCH = Decoder(list[_Envelope])

# What no type says is looked at for a column at once.
_TIER = re.compile("[A-Za-z0-9_-]{1,40}")
_TIMES = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.]\d{6})?[+]00:00,)*+", re.ASCII)
_LENGTH_OF_SECOND = len("2026-11-28T12:00:00")
_FIRST_TIME, _LAST_TIME = "0002", "9999"


def read_text(text: str) -> Told[UsageColumns] | None:
    """The events of a JSON array, where all are written as our own producers write them.

    None says nothing against them: only that the schema itself must be asked, event by event.
    Whatever is read here would be read alike there; a property test holds the two together.
    """
    try:
        envelopes = _BATCH.decode(text)
        return _told(envelopes) if envelopes else None
    except (DecodeError, ValueError):  # the latter for the 30th of February
        return None


def _told(envelopes: Sequence[_Envelope]) -> Told[UsageColumns] | None:
    envelope = _columns(envelopes)
    data = _columns(envelope["data"])
    if not (_is_numbered(envelope) and _are_times(envelope["time"]) and _is_of_somebody(data)):
        return None
    nothing = (None,) * len(envelopes)
    streams = {tier: f"{UsageRecorded.type}.{tier}" for tier in set(envelope["tier"])}
    usage = UsageColumns(
        **data,
        event_id=envelope["id"],
        tier=envelope["tier"],
        producer=envelope["source"],
        producer_epoch=envelope["producerepoch"],
        stream=list(map(streams.__getitem__, envelope["tier"])),
        sequence=envelope["producerseq"],
        occurred_at=envelope["time"],
        units=(0,) * len(envelopes),
        unit=nothing,
        cost_microusd=nothing,
        price_version=nothing,
    )
    return Told(
        usage,
        requests=[one for one in envelope["correlationid"] if one],
        traces=envelope["traceparent"],
        oldest=min(zip(envelope["time"], envelope["tier"], strict=True)),
    )


def _columns(rows: Sequence[Struct]) -> dict[str, tuple[Any, ...]]:
    return dict(zip(rows[0].__struct_fields__, zip(*map(astuple, rows), strict=True), strict=True))


def _is_numbered(envelope: dict[str, tuple[Any, ...]]) -> bool:
    ids = "".join(envelope["id"])
    return (
        all(map(_TIER.fullmatch, set(envelope["tier"])))
        and _are_ids(envelope["id"])
        and set(ids[14::_LENGTH_OF_ID]) == {"7"}  # their version
        and set(ids[19::_LENGTH_OF_ID]) <= {"8", "9", "a", "b"}
        and _are_ids([*envelope["subject"], *set(envelope["producerepoch"])])
    )


def _is_of_somebody(data: dict[str, tuple[Any, ...]]) -> bool:
    perhaps = (*data["session_id"], *data["key_organisation_id"])
    return _are_ids([*data["user_id"], *(one for one in perhaps if one is not None)])


def _are_ids(ids: Collection[str]) -> bool:
    """Whether texts of that length are UUIDs as our producers write them."""
    joined, dashes = "".join(ids), "-" * len(ids)
    others = joined.encode().translate(None, b"0123456789abcdef")
    places = (joined[place::_LENGTH_OF_ID] for place in (8, 13, 18, 23))
    return others == 4 * dashes.encode() and all(found == dashes for found in places)


def _are_times(times: Sequence[str]) -> bool:
    """Whether there were these moments. Raises ValueError for the 30th of February."""
    joined = ",".join([*times, ""])
    if joined.count(",") != len(times) or _TIMES.fullmatch(joined) is None:
        return False
    # Events of a batch were written within few seconds.
    seconds = {time[:_LENGTH_OF_SECOND] for time in times}
    for second in seconds:
        datetime.fromisoformat(second)
    return min(seconds) >= _FIRST_TIME and max(seconds) < _LAST_TIME
