"""The ledger's chain, its corrections, sums by the day, checks of the sums, and its archive."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
)

# Links and corrections are only added to. The links of a partition may go once its archive has been
# read back and found whole.
_GUARDS = """
create function keep_ledger_links() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and exists (
        select 1 from ledger_archive
        where state in ('verified', 'dropped') and old.chain >= first_chain
          and old.chain <= last_chain
    ) then
        return old;
    end if;
    raise exception 'the chain is append-only: no % of a link', lower(tg_op)
        using errcode = 'restrict_violation';
end $$;
create trigger keep_ledger_links before update or delete on ledger_link
    for each row execute function keep_ledger_links();

create function keep_ledger_corrections() returns trigger language plpgsql as $$
begin
    raise exception 'corrections are append-only' using errcode = 'restrict_violation';
end $$;
create trigger keep_ledger_corrections before update or delete or truncate on ledger_correction
    for each statement execute function keep_ledger_corrections();
"""

# What falls into no partition is kept in the default one, except where a partition was archived:
# nobody could tell there any more whether the same usage is in the archive already.
_REFUSE_ARCHIVED = """
create function refuse_archived_usage() returns trigger language plpgsql as $$
begin
    if exists (
        select 1 from ledger_archive
        where state = 'dropped' and new.event_id >= begins and new.event_id < ends
    ) then
        raise exception 'the time of % is archived', new.event_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger refuse_archived_usage before insert on ledger_entry_default
    for each row execute function refuse_archived_usage();
"""

_PARTITIONS = """
create function prepare_ledger_partition(partition text, first_day date, next_day date)
returns void language plpgsql as $$
declare
    begins constant uuid := ledger_month_begins(first_day);
    ends constant uuid := ledger_month_begins(next_day);
    make constant text := format(
        'create table %I partition of ledger_entry for values from (%L) to (%L)',
        partition, begins, ends
    );
begin
    if to_regclass(partition) is not null
       or exists (select 1 from ledger_archive a where a.partition = $1 and state = 'dropped')
    then
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
    -- Rows of that time came before its partition did, through a clock that is ahead. They move
    -- into it: all at once or not at all, and without a delete, which the guard would refuse.
    alter table ledger_entry detach partition ledger_entry_default;
    alter table ledger_entry_default rename to ledger_entry_stray;
    create table ledger_entry_default partition of ledger_entry default;
    create trigger refuse_archived_usage before insert on ledger_entry_default
        for each row execute function refuse_archived_usage();
    execute make;
    insert into ledger_entry select * from ledger_entry_stray;
    drop table ledger_entry_stray;
end $$;

create function ledger_month_has_days(month date) returns boolean language sql stable as $$
    select exists (
        select 1 from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'ledger_entry'::regclass
          and c.relname like 'ledger\\_entry\\_' || to_char(month, 'YYYY\\_MM\\_') || '%'
    )
$$;

-- One partition for a day; a month that has its own keeps it, unless that lies ahead and is empty.
create function prepare_ledger_day(day date, today date) returns void language plpgsql as $$
declare
    month constant text := 'ledger_entry_' || to_char(day, 'YYYY_MM');
    is_empty boolean;
begin
    if to_regclass(month) is not null then
        if date_trunc('month', day) <= date_trunc('month', today) then
            return;
        end if;
        execute format('select not exists (select 1 from %I)', month) into is_empty;
        if not is_empty then
            return;
        end if;
        execute format('lock table %I in access exclusive mode', month);
        execute format('select not exists (select 1 from %I)', month) into is_empty;
        if not is_empty then
            return;
        end if;
        execute format('drop table %I', month);
    end if;
    perform prepare_ledger_partition(
        'ledger_entry_' || to_char(day, 'YYYY_MM_DD'), day, day + 1
    );
end $$;

-- One partition for a month; what is left of a month that was begun in days goes on in days.
create or replace function prepare_ledger_month(month date) returns void language plpgsql as $$
declare
    first_day constant date := date_trunc('month', month)::date;
    next_month constant date := (first_day + interval '1 month')::date;
begin
    if ledger_month_has_days(first_day) then
        perform prepare_ledger_partition(
            'ledger_entry_' || to_char(day, 'YYYY_MM_DD'), day::date, day::date + 1
        )
        from generate_series(first_day, next_month - 1, interval '1 day') as day;
        return;
    end if;
    perform prepare_ledger_partition(
        'ledger_entry_' || to_char(first_day, 'YYYY_MM'), first_day, next_month
    );
end $$;
"""

# What is in the ledger already gets its links like all that comes.
_NOTE_WHAT_IS_THERE = """
insert into ledger_unlinked (kind, ids)
select 'entry', array_agg(event_id order by event_id)
from (select event_id, (row_number() over (order by event_id) - 1) / 500 as part
      from ledger_entry) as numbered
group by part order by part;
insert into ledger_unlinked (kind, ids)
select 'rating', array_agg(event_id order by event_id)
from (select event_id, (row_number() over (order by event_id) - 1) / 500 as part
      from ledger_entry where rated_at > received_at) as numbered
group by part order by part;
"""


def _sums() -> list[sa.Column[Any]]:
    return [
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Numeric(precision=38, scale=0), nullable=False) for name in _COUNTS),
        sa.Column("cost_microusd", sa.Numeric(precision=38, scale=0), nullable=False),
    ]


def _of_whom() -> list[sa.Column[Any]]:
    return [
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "ledger_unlinked",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ids", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "kind in ('entry', 'rating', 'correction')", name=op.f("ck_ledger_unlinked_known_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_unlinked")),
    )
    op.create_table(
        "ledger_link",
        sa.Column("chain", sa.Integer(), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("ids", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.Column("links", sa.LargeBinary(), nullable=False),
        sa.Column(
            "linked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("chain", "first_sequence", name=op.f("pk_ledger_link")),
    )
    op.create_table(
        "ledger_correction",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.UUID(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        *_of_whom(),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind in ('voided', 'adjusted')", name=op.f("ck_ledger_correction_known_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_correction")),
    )
    op.create_index("ix_ledger_correction_event_id", "ledger_correction", ["event_id"])
    op.create_index(
        "uq_ledger_correction_voided_once",
        "ledger_correction",
        ["event_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'voided'"),
    )
    op.create_table(
        "usage_day",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *_of_whom(),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "user_id",
            "day",
            "provider",
            "model",
            "operation",
            "sandbox",
            name=op.f("pk_usage_day"),
        ),
    )
    op.create_table(
        "usage_archived_hour",
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *_of_whom(),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "partition",
            "user_id",
            "hour",
            "provider",
            "model",
            "operation",
            "sandbox",
            name=op.f("pk_usage_archived_hour"),
        ),
    )
    op.create_table(
        "rollup_check",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("up_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("drifts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_check")),
    )
    op.create_table(
        "rollup_drift",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("rollup", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("begins", sa.DateTime(timezone=True), nullable=False),
        *_of_whom(),
        sa.Column("kept", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("due", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("repaired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("repaired_by", sa.UUID(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("rollup in ('hour', 'day')", name=op.f("ck_rollup_drift_known_rollup")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_drift")),
    )
    op.create_index(
        "uq_rollup_drift_open",
        "rollup_drift",
        ["rollup", "user_id", "begins", "provider", "model", "operation", "sandbox"],
        unique=True,
        postgresql_where=sa.text("repaired_at is null"),
    )
    op.create_table(
        "ledger_archive",
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("begins", sa.UUID(), nullable=False),
        sa.Column("ends", sa.UUID(), nullable=False),
        sa.Column("first_chain", sa.Integer(), nullable=False),
        sa.Column("last_chain", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state in ('exporting', 'exported', 'verified', 'dropped')",
            name=op.f("ck_ledger_archive_known_state"),
        ),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_ledger_archive")),
    )
    op.execute(_GUARDS)
    op.execute(_REFUSE_ARCHIVED)
    op.execute(_PARTITIONS)
    op.execute(_NOTE_WHAT_IS_THERE)
    # Sums change often and in place, as long as there is room beside them.
    op.execute("alter table usage_hour set (fillfactor = 60)")
    op.execute("alter table usage_day set (fillfactor = 60)")


def downgrade() -> None:
    op.execute("alter table usage_hour reset (fillfactor)")
    op.execute("drop trigger refuse_archived_usage on ledger_entry_default")
    for table in (
        "ledger_archive",
        "rollup_drift",
        "rollup_check",
        "usage_archived_hour",
        "usage_day",
        "ledger_correction",
        "ledger_link",
        "ledger_unlinked",
    ):
        op.drop_table(table)
    for function in (
        "refuse_archived_usage()",
        "keep_ledger_links()",
        "keep_ledger_corrections()",
        "prepare_ledger_day(date, date)",
        "ledger_month_has_days(date)",
    ):
        op.execute(f"drop function {function}")
