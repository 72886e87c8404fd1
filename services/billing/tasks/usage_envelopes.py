"""A batch of `usage.recorded`, read column by column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, get_args

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

_ENVELOPE = ("specversion", "id", "source", "type", "subject", "time", "dataschema", "tier", "data")
_TEXTS = ("provider", "model", "request_id")
_PERHAPS_TEXTS = ("service_tier", "provider_request_id")
_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)
_WORDS = {
    "operation": frozenset(get_args(Operation)),
    "source": frozenset(get_args(Source)),
    "outcome": frozenset(get_args(Outcome)),
}
_DATA = ("user_id", "session_id", "sandbox", *_WORDS, *_TEXTS, *_PERHAPS_TEXTS, *_COUNTS)
_envelope_of, _data_of = itemgetter(*_ENVELOPE), itemgetter(*_DATA)
_SCHEMA = f"urn:companion:event:{UsageRecorded.type}:{UsageRecorded.version}"

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12},"
_UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12},"
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{6})?[+]00:00,"
_UUIDS, _UUIDS7, _TIMES = (re.compile(f"(?:{one})*") for one in (_UUID, _UUID7, _TIME))
_TIER = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FIRST_TIME, _LAST_TIME = "0002", "9999"
_LONGEST_SOURCE, _LONGEST_TRACE = 100, 200


def read_columns(envelopes: Sequence[Mapping[str, Any]]) -> UsageColumns | None:
    """The batch, where every event in it is written just as our own producers write it.

    None says nothing against the batch: only that the schema itself must be asked, event by event.
    Whatever is read here would be read alike there; a property test holds the two together.
    """
    try:
        return _read(envelopes)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _read(envelopes: Sequence[Mapping[str, Any]]) -> UsageColumns | None:
    envelope = _transposed(_ENVELOPE, map(_envelope_of, envelopes))
    data = _transposed(_DATA, map(_data_of, envelope["data"]))
    # Younger than the other fields: what was told before it existed was not cached.
    data["cached"] = tuple(one.get("cached", False) for one in envelope["data"])
    # Nor was it known whose key it ran on.
    data["key_organisation_id"] = tuple(one.get("key_organisation_id") for one in envelope["data"])
    epochs = [one.get("producerepoch") for one in envelopes]
    sequences = [one.get("producerseq") for one in envelopes]
    if not (
        _is_envelope(envelope)
        and _are_traces([one.get("correlationid") for one in envelopes])
        and _are_traces([one.get("traceparent") for one in envelopes])
        and _are_places(epochs, sequences)
        and _is_usage(data)
    ):
        return None
    return _columns(envelope, data, epochs, sequences)


def _transposed(names: Sequence[str], rows: Any) -> dict[str, tuple[Any, ...]]:
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def _is_envelope(envelope: Mapping[str, Sequence[Any]]) -> bool:
    return (
        set(envelope["specversion"]) == {"1.0"}
        and set(envelope["type"]) == {UsageRecorded.type}
        and set(envelope["dataschema"]) == {_SCHEMA}
        and _are_texts(envelope["source"], _LONGEST_SOURCE)
        and all(map(_TIER.fullmatch, set(envelope["tier"])))
        and _all_match(_UUIDS7, envelope["id"])
        and _all_match(_UUIDS, envelope["subject"])
        and _are_times(envelope["time"])
    )


def _is_usage(data: Mapping[str, Sequence[Any]]) -> bool:
    return (
        all(words.issuperset(data[name]) for name, words in _WORDS.items())
        and all(_are_texts(data[name], LONGEST_TEXT) for name in _TEXTS)
        and all(_are_perhaps_texts(data[name], LONGEST_TEXT) for name in _PERHAPS_TEXTS)
        and all(_are_numbers(data[name], 0, MOST_UNITS) for name in _COUNTS)
        and set(map(type, data["sandbox"])) == {bool}
        and set(map(type, data["cached"])) == {bool}
        and _all_match(_UUIDS, data["user_id"])
        and _all_match(_UUIDS, [one for one in data["session_id"] if one is not None])
        and _all_match(_UUIDS, [one for one in data["key_organisation_id"] if one is not None])
    )


def _are_places(epochs: Sequence[Any], sequences: Sequence[Any]) -> bool:
    if set(epochs) == set(sequences) == {None}:
        return True
    return _are_numbers(sequences, 1, LAST_SEQUENCE - 1) and _all_match(_UUIDS, epochs)


def _are_traces(values: Sequence[Any]) -> bool:
    return _are_perhaps_texts(values, _LONGEST_TRACE)


def _are_times(values: Sequence[str]) -> bool:
    if not _all_match(_TIMES, values):
        return False
    for value in values:  # raises ValueError for the 30th of February
        datetime.fromisoformat(value)
    return min(values) >= _FIRST_TIME and max(values) < _LAST_TIME


def _are_texts(values: Sequence[Any], longest: int) -> bool:
    return set(map(type, values)) == {str} and max(map(len, values)) <= longest


def _are_perhaps_texts(values: Sequence[Any], longest: int) -> bool:
    present = [one for one in values if one is not None]
    return not present or _are_texts(present, longest)


def _are_numbers(values: Sequence[Any], least: int, most: int) -> bool:
    return set(map(type, values)) == {int} and min(values) >= least and max(values) <= most


def _all_match(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    """Whether each value matches a pattern whose own comma is its last sign."""
    joined = ",".join([*values, ""])
    return joined.count(",") == len(values) and pattern.fullmatch(joined) is not None


def _columns(
    envelope: Mapping[str, Sequence[Any]],
    data: Mapping[str, Sequence[Any]],
    epochs: Sequence[Any],
    sequences: Sequence[Any],
) -> UsageColumns:
    count = len(epochs)
    nothing = (None,) * count
    has_places = sequences[0] is not None
    return UsageColumns(
        event_id=envelope["id"],
        user_id=data["user_id"],
        tier=envelope["tier"],
        operation=data["operation"],
        provider=data["provider"],
        model=data["model"],
        source=data["source"],
        outcome=data["outcome"],
        **{name: data[name] for name in _COUNTS},
        service_tier=data["service_tier"],
        request_id=data["request_id"],
        provider_request_id=data["provider_request_id"],
        session_id=data["session_id"],
        sandbox=data["sandbox"],
        cached=data["cached"],
        key_organisation_id=data["key_organisation_id"],
        producer=envelope["source"],
        producer_epoch=epochs,
        stream=[f"{UsageRecorded.type}.{tier}" for tier in envelope["tier"]]
        if has_places
        else nothing,
        sequence=sequences,
        occurred_at=envelope["time"],
        units=(0,) * count,
        unit=nothing,
        cost_microusd=nothing,
        price_version=nothing,
    )
