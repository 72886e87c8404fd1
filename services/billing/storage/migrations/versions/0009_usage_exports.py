"""What was exported of the usage, and what the billing team may read with SQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_COUNTS = """input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
       output_reasoning_tokens, characters"""

# The columns stand in docs/reporting.md. Views run with the rights of their owner, so who reads
# them needs none on the tables. No texts that people wrote: reasons are left out.
_VIEWS = {
    "usage": f"""
select event_id, occurred_at, received_at, (occurred_at at time zone 'UTC')::date as day,
       user_id, tier, operation, provider, model, source, outcome,
       {_COUNTS}, units, unit, service_tier,
       request_id, provider_request_id, session_id, sandbox, producer,
       pricing_status, cost_microusd, price_version, rated_at
from ledger_entry""",  # noqa: S608 - made of constants
    "usage_daily": f"""
select user_id, day, provider, model, operation, sandbox, requests, unpriced_requests,
       {_COUNTS}, cost_microusd
from usage_day""",  # noqa: S608 - made of constants
    "usage_corrections": f"""
select id as correction_id, event_id, kind, made_at, made_by, source, occurred_at,
       (occurred_at at time zone 'UTC')::date as day, user_id, provider, model, operation, sandbox,
       requests, unpriced_requests, {_COUNTS}, cost_microusd
from ledger_correction""",  # noqa: S608 - made of constants
    "subscriptions": """
select user_id as holder_id, is_organisation, tier, seats, state, changed_at,
       period_begins, period_ends, unit_price_microusd, price_version, next_tier, next_seats,
       cancels, trial_used_at, owed_microusd, unpaid_since
from subscription""",
    "subscription_changes": """
select user_id as holder_id, revision, tier, seats, state, changed_at, changed_by
from subscription_change""",
    "charges": """
select id as charge_id, holder_id, is_organisation, kind, tier, seats, unit_price_microusd,
       price_version, begins, ends, amount_microusd, charged_at
from charge""",
    # Whom an invoice is addressed to, and what its lines say in words, stay where they are.
    "invoices": """
select id as invoice_id, number, holder_id, is_organisation, month, subtotal_microusd, net_cents,
       total_cents - net_cents as tax_cents, total_cents, carried_microusd, issued_at, due_at
from invoice""",
    "invoice_lines": """
select id as line_id, invoice_id, position, kind, quantity, unit, vendor_cost_microusd,
       amount_microusd, items
from invoice_line""",
    "invoice_items": """
select source_id, aspect, line_id, holder_id, unpriced from invoice_item""",
    "credit_notes": """
select id as credit_note_id, number, invoice_id, holder_id, is_organisation, subtotal_microusd,
       net_cents, total_cents - net_cents as tax_cents, total_cents, carried_microusd, issued_at,
       issued_by
from credit_note""",
    "credit_note_lines": """
select credit_note_id, position, line_id, amount_microusd from credit_note_line""",
    "prices": """
select id as price_id, 'override/' || id::text as price_version, provider, model, effective_from,
       input_microusd_per_million, cache_read_microusd_per_million,
       cache_write_microusd_per_million, output_microusd_per_million,
       characters_microusd_per_million, unit_microusd, set_by, set_at
from price_override""",
    "plan_prices": """
select tier, effective_from, microusd_per_seat_month, set_by, set_at from plan_price""",
}

# Roles belong to the whole server: another database of it may have made it already, and whoever
# migrates may not be allowed to. The views are there in either case.
_ROLE = """
do $$
begin
    if not exists (select from pg_roles where rolname = 'billing_reader') then
        create role billing_reader nologin;
    end if;
exception
    when insufficient_privilege then
        raise notice 'The role billing_reader is missing and % may not create roles. Run as one '
            'that may: create role billing_reader nologin; then `companion reporting grant`.',
            current_user;
    when duplicate_object or unique_violation then
        null;
end $$;
"""
_DEFAULTS = """
do $$
begin
    alter role billing_reader set default_transaction_read_only = on;
    alter role billing_reader set statement_timeout = '60s';
exception
    when insufficient_privilege or undefined_object then
        null;  -- whoever made the role sets them; each login gets its own in any case
end $$;
"""
_GRANT = """
do $$
begin
    if exists (select from pg_roles where rolname = 'billing_reader') then
        grant usage on schema reporting to billing_reader;
        grant select on all tables in schema reporting to billing_reader;
    end if;
    execute format('revoke temporary on database %I from public', current_database());
end $$;
"""


def upgrade() -> None:
    op.create_table(
        "usage_export",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("asked_at", _MOMENT, nullable=False),
        sa.Column("begins", _MOMENT, nullable=False),
        sa.Column("ends", _MOMENT, nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "format in ('csv', 'ndjson', 'parquet')", name=op.f("ck_usage_export_known_format")
        ),
        sa.CheckConstraint("begins < ends", name=op.f("ck_usage_export_not_empty")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_export")),
    )
    op.create_table(
        "usage_export_day",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("complete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("exported_at", _MOMENT, nullable=True),
        sa.Column("checked_at", _MOMENT, nullable=True),
        sa.Column("claimed_until", _MOMENT, nullable=True),
        sa.Column("failed_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("target", "day", name=op.f("pk_usage_export_day")),
    )
    op.execute("create schema reporting")
    for name, query in _VIEWS.items():
        op.execute(f"create view reporting.{name} as {query}")
    for statement in (_ROLE, _DEFAULTS, _GRANT):
        op.execute(statement)


def downgrade() -> None:
    # The role stays: other databases of the server may use it.
    op.execute("drop schema reporting cascade")
    op.drop_table("usage_export_day")
    op.drop_table("usage_export")
