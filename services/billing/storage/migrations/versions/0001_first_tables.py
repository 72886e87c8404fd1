"""Ledger with its partitions and guard, hourly sums, prices, subscriptions, completeness."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Facts stand. A rating is given once, to an entry of unknown price; what has to be corrected later
# becomes an entry of its own.
_GUARD = """
create function keep_ledger_facts() returns trigger language plpgsql as $$
declare
    rating constant text[] := array['pricing_status', 'cost_microusd', 'price_version', 'rated_at'];
begin
    if tg_op = 'UPDATE'
       and old.pricing_status = 'unknown_price' and new.pricing_status = 'rated'
       and to_jsonb(new) - rating = to_jsonb(old) - rating
    then
        return new;
    end if;
    raise exception 'the ledger is append-only: no % of %', lower(tg_op), old.event_id
        using errcode = 'restrict_violation';
end $$;

create trigger keep_ledger_facts before update or delete on ledger_entry
    for each row execute function keep_ledger_facts();
"""

# A version 7 UUID begins with its 48 bits of Unix milliseconds.
_PARTITIONS = """
create table ledger_entry_default partition of ledger_entry default;

create function ledger_month_begins(month date) returns uuid language sql immutable as $$
    select (
        lpad(to_hex((extract(epoch from month::timestamp at time zone 'UTC') * 1000)::bigint),
             12, '0')
        || repeat('0', 20)
    )::uuid
$$;

create function prepare_ledger_month(month date) returns void language plpgsql as $$
declare
    first_day constant date := date_trunc('month', month)::date;
    partition constant text := 'ledger_entry_' || to_char(first_day, 'YYYY_MM');
    begins constant uuid := ledger_month_begins(first_day);
    ends constant uuid := ledger_month_begins((first_day + interval '1 month')::date);
    make constant text := format(
        'create table %I partition of ledger_entry for values from (%L) to (%L)',
        partition, begins, ends
    );
begin
    if to_regclass(partition) is not null then
        return;
    end if;
    -- Two workers may prepare at once; the second one waits here and finds the work done. A lock on
    -- the table, since only such a one makes it look at what others have changed.
    lock table ledger_entry in share update exclusive mode;
    if to_regclass(partition) is not null then
        return;
    end if;
    if not exists (
        select 1 from ledger_entry_default where event_id >= begins and event_id < ends
    ) then
        execute make;
        return;
    end if;
    -- Rows of that month came before its partition did, through a clock that is ahead. They move
    -- into it: all at once or not at all, and without a delete, which the guard would refuse.
    alter table ledger_entry detach partition ledger_entry_default;
    alter table ledger_entry_default rename to ledger_entry_stray;
    create table ledger_entry_default partition of ledger_entry default;
    execute make;
    insert into ledger_entry select * from ledger_entry_stray;
    drop table ledger_entry_stray;
end $$;

select prepare_ledger_month((date_trunc('month', now() at time zone 'UTC')
                             + make_interval(months => ahead))::date)
from generate_series(-1, 3) as ahead;
"""


def upgrade() -> None:
    op.create_table(
        "dead_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "stored_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_event")),
    )
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column(
            "handled_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("characters", sa.BigInteger(), nullable=False),
        sa.Column("service_tier", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.UUID(), nullable=True),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("producer_epoch", sa.UUID(), nullable=True),
        sa.Column("stream", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("pricing_status", sa.Text(), nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.Text(), nullable=True),
        sa.Column("rated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "case pricing_status"
            " when 'rated' then cost_microusd is not null and cost_microusd >= 0"
            " and price_version is not null and rated_at is not null"
            " when 'unknown_price' then cost_microusd is null and price_version is null"
            " and rated_at is null"
            " else false end",
            name=op.f("ck_ledger_entry_rated_or_unknown"),
        ),
        sa.CheckConstraint(
            "get_byte(uuid_send(event_id), 6) >> 4 = 7",
            name=op.f("ck_ledger_entry_id_is_version_7"),
        ),
        sa.CheckConstraint(
            "input_tokens >= 0 and cache_read_tokens >= 0 and cache_write_tokens >= 0"
            " and output_tokens >= 0 and output_reasoning_tokens >= 0 and characters >= 0",
            name=op.f("ck_ledger_entry_counts_are_not_negative"),
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_ledger_entry")),
        postgresql_partition_by="RANGE (event_id)",
    )
    op.create_index(
        "ix_ledger_entry_unpriced",
        "ledger_entry",
        ["provider", "model", "event_id"],
        unique=False,
        postgresql_where=sa.text("pricing_status = 'unknown_price'"),
    )
    op.create_index(
        "ix_ledger_entry_user_id_occurred_at",
        "ledger_entry",
        ["user_id", "occurred_at", "event_id"],
        unique=False,
    )
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("envelope", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_stream_created_at", "outbox", ["stream", "created_at"], unique=False)
    op.create_table(
        "outbox_sent",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("envelope", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "sent_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("stream", "sequence", name=op.f("pk_outbox_sent")),
    )
    op.create_index("ix_outbox_sent_sent_at", "outbox_sent", ["sent_at"], unique=False)
    op.create_table(
        "outbox_stream",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("epoch", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_outbox_stream")),
    )
    op.create_table(
        "price_override",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("input_microusd_per_million", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_microusd_per_million", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_microusd_per_million", sa.BigInteger(), nullable=True),
        sa.Column("output_microusd_per_million", sa.BigInteger(), nullable=True),
        sa.Column("characters_microusd_per_million", sa.BigInteger(), nullable=True),
        sa.Column("set_by", sa.UUID(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_override")),
        sa.UniqueConstraint(
            "provider",
            "model",
            "effective_from",
            name=op.f("uq_price_override_provider_model_effective_from"),
        ),
    )
    op.create_table(
        "rating_cursor",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("after_event_id", sa.UUID(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", name=op.f("pk_rating_cursor")),
    )
    op.create_table(
        "subscription",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("seats >= 1", name=op.f("ck_subscription_at_least_one_seat")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_subscription")),
    )
    op.create_table(
        "subscription_change",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.UUID(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "revision", name=op.f("pk_subscription_change")),
    )
    op.create_table(
        "usage_gap",
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("epoch", sa.UUID(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("next_request_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "producer", "epoch", "stream", "first_sequence", name=op.f("pk_usage_gap")
        ),
    )
    op.create_table(
        "usage_hour",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("cache_read_tokens", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("cache_write_tokens", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("output_tokens", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("output_reasoning_tokens", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("characters", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.Column("cost_microusd", sa.Numeric(precision=38, scale=0), nullable=False),
        sa.CheckConstraint(
            "unpriced_requests between 0 and requests",
            name=op.f("ck_usage_hour_unpriced_are_requests"),
        ),
        sa.PrimaryKeyConstraint(
            "user_id",
            "hour",
            "provider",
            "model",
            "operation",
            "sandbox",
            name=op.f("pk_usage_hour"),
        ),
    )
    op.create_index(
        "ix_usage_hour_unpriced",
        "usage_hour",
        ["provider", "model"],
        unique=False,
        postgresql_where=sa.text("unpriced_requests > 0"),
    )
    op.create_table(
        "usage_stream",
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("epoch", sa.UUID(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column(
            "received", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("announced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("last_manifest_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("producer", "epoch", "stream", name=op.f("pk_usage_stream")),
    )
    op.execute(_GUARD)
    op.execute(_PARTITIONS)


def downgrade() -> None:
    op.drop_table("usage_stream")
    op.drop_index(
        "ix_usage_hour_unpriced",
        table_name="usage_hour",
        postgresql_where=sa.text("unpriced_requests > 0"),
    )
    op.drop_table("usage_hour")
    op.drop_table("usage_gap")
    op.drop_table("subscription_change")
    op.drop_table("subscription")
    op.drop_table("rating_cursor")
    op.drop_table("price_override")
    op.drop_table("outbox_stream")
    op.drop_index("ix_outbox_sent_sent_at", table_name="outbox_sent")
    op.drop_table("outbox_sent")
    op.drop_index("ix_outbox_stream_created_at", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_ledger_entry_user_id_occurred_at", table_name="ledger_entry")
    op.drop_index(
        "ix_ledger_entry_unpriced",
        table_name="ledger_entry",
        postgresql_where=sa.text("pricing_status = 'unknown_price'"),
    )
    op.drop_table("ledger_entry")
    op.execute("drop function prepare_ledger_month(date)")
    op.execute("drop function ledger_month_begins(date)")
    op.execute("drop function keep_ledger_facts()")
    op.drop_index("ix_inbox_handled_at", table_name="inbox")
    op.drop_table("inbox")
    op.drop_table("dead_event")
