"""The tables of billing's database.

What Alembic does not model (partitions, the guard of the ledger) stands in the migrations.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, INT8MULTIRANGE, JSONB, UUID

from services.billing.storage.aged_usage_tables import add_aged_usage
from services.billing.storage.analytics_tables import add_analytics_tables
from services.billing.storage.details_tables import add_billing_details
from services.billing.storage.export_tables import add_export_tables
from services.billing.storage.invoice_tables import add_invoices
from services.billing.storage.staff_look_tables import add_staff_look
from services.billing.storage.subscription_tables import add_subscriptions
from services.billing.storage.webhook_tables import add_webhooks
from shared.db.forgotten import add_forgotten_user
from shared.db.tables import new_metadata

metadata = new_metadata()
add_forgotten_user(metadata)
add_aged_usage(metadata)
add_analytics_tables(metadata)
add_webhooks(metadata)
add_billing_details(metadata)
add_export_tables(metadata)
add_invoices(metadata)
add_staff_look(metadata)
add_subscriptions(metadata)

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
    Column("received_at", _Moment, nullable=False, server_default=text("clock_timestamp()")),
    Column("pricing_status", Text, nullable=False),
    Column("cost_microusd", BigInteger),
    Column("price_version", Text),
    Column("rated_at", _Moment),
    # What a meter of a service outside the suite has counted, such as screenshots.
    Column("units", BigInteger, nullable=False, server_default=text("0")),
    Column("unit", Text),
    # A note beside the counts, which say that nothing was used. No link covers it and no archive
    # has it: links of before it existed must hold as they are.
    Column("cached", Boolean, nullable=False, server_default=text("false")),
    # Whose key at the vendor it ran on, where that was an organisation's.
    Column("key_organisation_id", _Id),
    CheckConstraint("units >= 0", name="units_are_not_negative"),
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
    Index("ix_ledger_entry_occurred_at", "occurred_at", postgresql_using="brin"),
    Index("ix_ledger_entry_received_at", "received_at", postgresql_using="brin"),
    Index(
        "ix_ledger_entry_unpriced",
        "provider",
        "model",
        "event_id",
        postgresql_where=text("pricing_status = 'unknown_price'"),
    ),
    # With all that is added up: what an organisation's members used lies scattered over the ledger.
    Index(
        "ix_ledger_entry_key_organisation",
        "key_organisation_id",
        "occurred_at",
        postgresql_include=[
            "user_id",
            "provider",
            "model",
            "operation",
            "sandbox",
            *_COUNTS,
            "cost_microusd",
        ],
        postgresql_where=text("key_organisation_id is not null"),
    ),
    postgresql_partition_by="RANGE (event_id)",
)

# Sums of the ledger. An entry is counted in the transaction that links it, what is said of it later
# (a rating, a correction) as it is said, which may be before. Numeric, so that no sum of 64-bit
# counts can overflow. `cost_microusd` covers the rows whose price is known.
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
    Index(
        "ix_usage_hour_unpriced",
        "provider",
        "model",
        postgresql_where=text("unpriced_requests > 0"),
    ),
)


def _sums() -> list[Column[Any]]:
    return [
        Column("requests", BigInteger, nullable=False),
        Column("unpriced_requests", BigInteger, nullable=False),
        *(Column(name, Numeric(38, 0), nullable=False) for name in (*_COUNTS, "cost_microusd")),
    ]


def _of_whom() -> list[Column[Any]]:
    return [
        Column("provider", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("operation", Text, nullable=False),
        Column("sandbox", Boolean, nullable=False),
    ]


# Entries that wait for their link in the chain, and for being counted: one row for each batch that
# added some, in the same transaction.
Table(
    "ledger_uncounted",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("ids", ARRAY(_Id), nullable=False),
    Column("noted_at", _Moment, nullable=False, server_default=_NOW),
    # For each id the letter of its kind and its digest, where the intake made them.
    Column("marks", LargeBinary),
)

# What waits for its link alone, the same way: ratings and corrections, and entries that the release
# before took in.
Table(
    "ledger_unlinked",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("ids", ARRAY(_Id), nullable=False),
    Column("noted_at", _Moment, nullable=False, server_default=_NOW),
    # By the release before.
    Column("marks", LargeBinary),
    CheckConstraint("kind in ('entry', 'rating', 'correction')", name="known_kind"),
)

# The same for entries that ran on an organisation's key, which the release before the last would
# give links that leave that out. Nothing is added any more.
Table(
    "ledger_unlinked_of_organisation",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("ids", ARRAY(_Id), nullable=False),
    Column("noted_at", _Moment, nullable=False, server_default=_NOW),
    Column("marks", LargeBinary),
)

# A run of links of one chain; `links` has 32 bytes for each. Added to and never changed.
Table(
    "ledger_link",
    metadata,
    Column("chain", Integer, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("kinds", Text, nullable=False),
    Column("ids", ARRAY(_Id), nullable=False),
    Column("links", LargeBinary, nullable=False),
    Column("linked_at", _Moment, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("chain", "first_sequence"),
)

# What has to be taken away from an entry or added to it, signed. Appended and never changed.
Table(
    "ledger_correction",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("event_id", _Id, nullable=False),
    Column("kind", Text, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("unpriced_requests", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in (*_COUNTS, "cost_microusd")),
    Column("reason", Text, nullable=False),
    Column("made_by", _Id),
    Column("source", Text, nullable=False),
    Column("made_at", _Moment, nullable=False),
    *_of_whom(),
    Column("occurred_at", _Moment, nullable=False),
    # By which somebody asks for it again. No link covers it.
    Column("idempotency_key", Text),
    CheckConstraint("kind in ('voided', 'adjusted')", name="known_kind"),
    Index(
        "uq_ledger_correction_key",
        "event_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key is not null"),
    ),
    Index("ix_ledger_correction_event_id", "event_id"),
    Index("ix_ledger_correction_user_id", "user_id"),
    Index(
        "uq_ledger_correction_voided_once",
        "event_id",
        unique=True,
        postgresql_where=text("kind = 'voided'"),
    ),
)

# Sums of all that has its link, changed in the transaction that links it.
Table(
    "usage_day",
    metadata,
    Column("user_id", _Id, nullable=False),
    Column("day", Date, nullable=False),
    *_of_whom(),
    *_sums(),
    PrimaryKeyConstraint("user_id", "day", "provider", "model", "operation", "sandbox"),
)

# What archived partitions held, so that hours can still be compared with all there ever was.
Table(
    "usage_archived_hour",
    metadata,
    Column("partition", Text, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("hour", _Moment, nullable=False),
    *_of_whom(),
    *_sums(),
    PrimaryKeyConstraint(
        "partition", "user_id", "hour", "provider", "model", "operation", "sandbox"
    ),
)

# The same of what ran on an organisation's key, with its corrections: nothing of it changes any
# more.
Table(
    "usage_archived_organisation_hour",
    metadata,
    Column("partition", Text, nullable=False),
    Column("organisation_id", _Id, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("hour", _Moment, nullable=False),
    *_of_whom(),
    *_sums(),
    PrimaryKeyConstraint(
        "organisation_id",
        "hour",
        "user_id",
        "provider",
        "model",
        "operation",
        "sandbox",
        "partition",
    ),
)

Table(
    "rollup_check",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("checked_at", _Moment, nullable=False),
    Column("up_to", _Moment, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("drifts", BigInteger, nullable=False),
)

# Sums that were not what the ledger says, and how each was put right.
Table(
    "rollup_drift",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("rollup", Text, nullable=False),
    Column("user_id", _Id, nullable=False),
    Column("begins", _Moment, nullable=False),
    *_of_whom(),
    Column("kept", JSONB, nullable=False),
    Column("due", JSONB, nullable=False),
    Column("found_at", _Moment, nullable=False),
    Column("repaired_at", _Moment),
    Column("repaired_by", _Id),
    Column("reason", Text),
    CheckConstraint("rollup in ('hour', 'day')", name="known_rollup"),
    Index(
        "uq_rollup_drift_open",
        "rollup",
        "user_id",
        "begins",
        "provider",
        "model",
        "operation",
        "sandbox",
        unique=True,
        postgresql_where=text("repaired_at is null"),
    ),
)

# How far a partition is on its way into a file.
Table(
    "ledger_archive",
    metadata,
    Column("partition", Text, primary_key=True),
    Column("begins", _Id, nullable=False),
    Column("ends", _Id, nullable=False),
    Column("first_chain", Integer, nullable=False),
    Column("last_chain", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("summary", JSONB),
    Column("changed_at", _Moment, nullable=False),
    CheckConstraint(
        "state in ('exporting', 'exported', 'verified', 'dropped')", name="known_state"
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
    Column("unit_microusd", BigInteger),  # of one unit of a meter outside the suite
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

# Whom an event of a service outside the suite was told by, and as which entry it stands.
Table(
    "outside_event",
    metadata,
    Column("reporter_id", _Id, nullable=False),
    Column("source", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("event_id", _Id, nullable=False),
    Column("digest", BYTEA, nullable=False),
    Column("reported_at", _Moment, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("reporter_id", "source", "external_id"),
)

# What was told, whoever told it first, and as which entry it stands.
Table(
    "outside_content",
    metadata,
    Column("content", BYTEA, primary_key=True),
    Column("event_id", _Id, nullable=False),
)

# What such a service says of an entry beside its facts. Not a part of the ledger: no link covers
# it, no archive has it, and it goes with its user.
Table(
    "usage_metadata",
    metadata,
    Column("event_id", _Id, primary_key=True),
    Column("user_id", _Id, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Index("ix_usage_metadata_user_id", "user_id"),
)

# Users who were forgotten, for good: of what is told of them later nothing is kept but the usage.
Table(
    "gone_user",
    metadata,
    Column("user_id", _Id, primary_key=True),
    Column("noted_at", _Moment, nullable=False, server_default=_NOW),
)

# What such a service told that can't be counted as it is: settled once it is told again, well, and
# kept for good.
Table(
    "held_usage",
    metadata,
    Column("reporter_id", _Id, nullable=False),
    Column("source", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("occurred_at", _Moment, nullable=False),
    Column("held_at", _Moment, nullable=False, server_default=_NOW),
    Column("settled_at", _Moment),
    Column("refused_by", _Id),
    Column("refused_because", Text),
    PrimaryKeyConstraint("reporter_id", "source", "external_id"),
    Index(
        "ix_held_usage_metadata_of",
        text("(body ->> 'subject')"),
        postgresql_where=text("body #> '{data,metadata}' is not null"),
    ),
)

# What a producer says it sent in an hour, and what of it stands in the ledger.
Table(
    "usage_manifest",
    metadata,
    Column("producer", Text, nullable=False),
    Column("epoch", _Id, nullable=False),
    Column("stream", Text, nullable=False),
    Column("hour", _Moment, nullable=False),
    Column("announced", JSONB, nullable=False),
    Column("announced_at", _Moment, nullable=False),
    Column("recorded", JSONB),
    Column("compared_at", _Moment),
    PrimaryKeyConstraint("producer", "epoch", "stream", "hour"),
    Index(
        "ix_usage_manifest_unmatched",
        "compared_at",
        postgresql_where=text("recorded is distinct from announced"),
    ),
)

# A month that is closed for good; the database refuses to open it again.
Table(
    "period",
    metadata,
    Column("month", Date, primary_key=True),
    Column("closed_at", _Moment, nullable=False),
    Column("closed_by", _Id, nullable=False),
    Column("waived", JSONB, nullable=False),
    Column("reason", Text),
    Column("totals", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    CheckConstraint("waived = '[]'::jsonb or reason is not null", name="waived_with_reason"),
)

# Prices that are to hold for what was rated already, and how far that has come.
Table(
    "rerating",
    metadata,
    Column("price_id", _Id, primary_key=True),
    Column("asked_by", _Id, nullable=False),
    Column("asked_at", _Moment, nullable=False),
    Column(
        "after_event_id",
        _Id,
        nullable=False,
        server_default=text("'00000000-0000-0000-0000-000000000000'"),
    ),
    Column("corrected", BigInteger, nullable=False, server_default=text("0")),
    Column("done_at", _Moment),
)

# Which thresholds of a limit their user was told of, and how large it was then (null: by a release
# that did not note it). Once each, and again of a larger one.
Table(
    "limit_alert",
    metadata,
    Column("user_id", _Id, nullable=False),
    Column("window_name", Text, nullable=False),
    Column("starts_at", _Moment, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("told_at", _Moment, nullable=False, server_default=_NOW),
    Column("most", BigInteger),
    PrimaryKeyConstraint("user_id", "window_name", "starts_at", "percent"),
)
