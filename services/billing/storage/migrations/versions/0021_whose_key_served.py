"""The ledger says on which organisation's key a call ran, and what waits for such a link."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_ID = postgresql.UUID(as_uuid=True)
_MOMENT = sa.DateTime(timezone=True)
_SUMMED = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "output_reasoning_tokens",
    "characters",
    "cost_microusd",
)
# As in 0012, and the new column behind: a view can only be given more of them.
_COLUMNS = """event_id, occurred_at, received_at, (occurred_at at time zone 'UTC')::date as day,
       user_id, tier, operation, provider, model, source, outcome,
       input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
       output_reasoning_tokens, characters, units, unit, service_tier,
       request_id, provider_request_id, session_id, sandbox, producer,
       pricing_status, cost_microusd, price_version, rated_at, cached"""
_GRANT = """
do $$
begin
    if exists (select from pg_roles where rolname = 'billing_reader') then
        grant select on reporting.usage to billing_reader;
    end if;
end $$;
"""


def upgrade() -> None:
    # Without a default: no row is touched, in no partition.
    op.add_column("ledger_entry", sa.Column("key_organisation_id", _ID))
    op.create_table(
        "ledger_unlinked_of_organisation",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("ids", postgresql.ARRAY(_ID), nullable=False),
        sa.Column("noted_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_unlinked_of_organisation")),
    )
    op.create_table(
        "usage_archived_organisation_hour",
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("organisation_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("hour", _MOMENT, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "organisation_id",
            "hour",
            "user_id",
            "provider",
            "model",
            "operation",
            "sandbox",
            "partition",
            name=op.f("pk_usage_archived_organisation_hour"),
        ),
    )
    op.execute(
        f"create or replace view reporting.usage as select {_COLUMNS}, key_organisation_id"  # noqa: S608
        " from ledger_entry"
    )


def _sums() -> list[sa.Column[Any]]:
    return [
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Numeric(38, 0), nullable=False) for name in _SUMMED),
    ]


def downgrade() -> None:
    op.execute("drop view reporting.usage")
    op.execute(f"create view reporting.usage as select {_COLUMNS} from ledger_entry")  # noqa: S608
    op.execute(_GRANT)
    op.drop_table("usage_archived_organisation_hour")
    op.drop_table("ledger_unlinked_of_organisation")
    op.drop_column("ledger_entry", "key_organisation_id")
