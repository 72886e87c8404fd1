"""Who reads corrections with SQL sees which units of usage from outside were taken back."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# As in 0009, and the new columns behind: a view can only be given more of them.
_COLUMNS = """c.id as correction_id, c.event_id, c.kind, c.made_at, c.made_by, c.source,
       c.occurred_at, (c.occurred_at at time zone 'UTC')::date as day, c.user_id, c.provider,
       c.model, c.operation, c.sandbox, c.requests, c.unpriced_requests,
       c.input_tokens, c.cache_read_tokens, c.cache_write_tokens, c.output_tokens,
       c.output_reasoning_tokens, c.characters, c.cost_microusd"""
# Looked up by its id, and only where it is asked for: a join would read all of the ledger.
_VOIDED = "select e.{} from ledger_entry e where c.kind = 'voided' and e.event_id = c.event_id"
_GRANT = """
do $$
begin
    if exists (select from pg_roles where rolname = 'billing_reader') then
        grant select on reporting.usage_corrections to billing_reader;
    end if;
end $$;
"""


def upgrade() -> None:
    op.execute(
        f"create or replace view reporting.usage_corrections as select {_COLUMNS},"  # noqa: S608
        f" coalesce(-({_VOIDED.format('units')}), 0) as units, ({_VOIDED.format('unit')}) as unit"
        " from ledger_correction c"
    )


def downgrade() -> None:
    op.execute("drop view reporting.usage_corrections")
    op.execute(
        f"create view reporting.usage_corrections as select {_COLUMNS} from ledger_correction c"  # noqa: S608
    )
    op.execute(_GRANT)
