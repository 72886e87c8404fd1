"""The tables of billing's database.

What Alembic does not model (partitions, the guard of the ledger) stands in the migrations.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, UUID

from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)
_NOW = text("now()")
_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)

# One row per paid call, appended and never changed. Partitioned by its id, a version 7 UUID and
# therefore a time: one index makes ids unique across all partitions and prunes by month.
Table(
    "ledger_entry",
    metadata,
    Column("event_id", _Id, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("tier", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _COUNTS),
    Column("service_tier", Text),
    Column("request_id", Text, nullable=False),
    Column("provider_request_id", Text),
    Column("session_id", _Id),
    Column("sandbox", Boolean, nullable=False),
    Column("producer", Text, nullable=False),
    Column("producer_epoch", _Id),
    Column("stream", Text),
    Column("sequence", BigInteger),
    Column("occurred_at", _Moment, nullable=False),
    Column("received_at", _Moment, nullable=False, server_default=_NOW),
    Column("pricing_status", Text, nullable=False),
    Column("cost_microusd", BigInteger),
    Column("price_version", Text),
    Column("rated_at", _Moment),
    PrimaryKeyConstraint("event_id"),
    CheckConstraint("get_byte(uuid_send(event_id), 6) >> 4 = 7", name="id_is_version_7"),
    CheckConstraint(
        " and ".join(f"{name} >= 0" for name in _COUNTS), name="counts_are_not_negative"
    ),
    CheckConstraint(
        "case pricing_status"
        " when 'rated' then cost_microusd is not null and cost_microusd >= 0"
        " and price_version is not null and rated_at is not null"
        " when 'unknown_price' then cost_microusd is null and price_version is null"
        " and rated_at is null"
        " else false end",
        name="rated_or_unknown",
    ),
    Index("ix_ledger_entry_user_id_occurred_at", "user_id", "occurred_at", "event_id"),
    Index(
        "ix_ledger_entry_unpriced",
        "provider",
        "model",
        "event_id",
        postgresql_where=text("pricing_status = 'unknown_price'"),
    ),
    postgresql_partition_by="RANGE (event_id)",
)

# Sums of the ledger, changed in the same transaction. Numeric, so that no sum of 64-bit counts can
# overflow. `cost_microusd` covers the rows whose price is known.
Table(
    "usage_hour",
    metadata,
    Column("user_id", _Id, nullable=False),
    Column("hour", _Moment, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("unpriced_requests", BigInteger, nullable=False),
    *(Column(name, Numeric(38, 0), nullable=False) for name in _COUNTS),
    Column("cost_microusd", Numeric(38, 0), nullable=False),
    PrimaryKeyConstraint("user_id", "hour", "provider", "model", "operation", "sandbox"),
    CheckConstraint("unpriced_requests between 0 and requests", name="unpriced_are_requests"),
    Index(
        "ix_usage_hour_unpriced",
        "provider",
        "model",
        postgresql_where=text("unpriced_requests > 0"),
    ),
)

Table(
    "price_override",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("effective_from", _Moment, nullable=False),
    Column("input_microusd_per_million", BigInteger),
    Column("cache_read_microusd_per_million", BigInteger),
    Column("cache_write_microusd_per_million", BigInteger),
    Column("output_microusd_per_million", BigInteger),
    Column("characters_microusd_per_million", BigInteger),
    Column("set_by", _Id, nullable=False),
    Column("set_at", _Moment, nullable=False),
    UniqueConstraint("provider", "model", "effective_from"),
)

# Where the search for entries that can now be rated goes on, per model.
Table(
    "rating_cursor",
    metadata,
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("after_event_id", _Id, nullable=False),
    PrimaryKeyConstraint("provider", "model"),
)

Table(
    "subscription",
    metadata,
    Column("user_id", _Id, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("changed_at", _Moment),
    # Then `user_id` is the organisation's id.
    Column("is_organisation", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("seats >= 1", name="at_least_one_seat"),
)

# Every change, so that a month can be charged by what held when.
Table(
    "subscription_change",
    metadata,
    Column("user_id", _Id, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("tier", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("changed_at", _Moment, nullable=False),
    Column("changed_by", _Id, nullable=False),
    PrimaryKeyConstraint("user_id", "revision"),
)

# What has come of each producer's streams.
Table(
    "usage_stream",
    metadata,
    Column("producer", Text, nullable=False),
    Column("epoch", _Id, nullable=False),
    Column("stream", Text, nullable=False),
    Column("received", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("announced", BigInteger, nullable=False, server_default=text("0")),
    Column("last_seen_at", _Moment, nullable=False, server_default=_NOW),
    Column("last_manifest_at", _Moment),
    PrimaryKeyConstraint("producer", "epoch", "stream"),
)

Table(
    "usage_gap",
    metadata,
    Column("producer", Text, nullable=False),
    Column("epoch", _Id, nullable=False),
    Column("stream", Text, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("seen_at", _Moment, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("next_request_at", _Moment, nullable=False),
    PrimaryKeyConstraint("producer", "epoch", "stream", "first_sequence"),
)
