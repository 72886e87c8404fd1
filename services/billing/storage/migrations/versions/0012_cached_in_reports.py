"""Who reads the ledger with SQL sees which usage was answered from what its user had before."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# As in 0009, and the new column behind: a view can only be given more of them.
_COLUMNS = """event_id, occurred_at, received_at, (occurred_at at time zone 'UTC')::date as day,
       user_id, tier, operation, provider, model, source, outcome,
       input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
       output_reasoning_tokens, characters, units, unit, service_tier,
       request_id, provider_request_id, session_id, sandbox, producer,
       pricing_status, cost_microusd, price_version, rated_at"""
_GRANT = """
do $$
begin
    if exists (select from pg_roles where rolname = 'billing_reader') then
        grant select on reporting.usage to billing_reader;
    end if;
end $$;
"""


def upgrade() -> None:
    op.execute(
        f"create or replace view reporting.usage as select {_COLUMNS}, cached from ledger_entry"  # noqa: S608
    )


def downgrade() -> None:
    op.execute("drop view reporting.usage")
    op.execute(f"create view reporting.usage as select {_COLUMNS} from ledger_entry")  # noqa: S608
    op.execute(_GRANT)
