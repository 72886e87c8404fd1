"""What ran on an organisation's key is found, and added up, without a look at the rest."""

from __future__ import annotations

from alembic import op

from shared.db.migrations import create_index_on_partitions

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# With all that is added up: what an organisation's members used lies scattered over the ledger.
_COLUMNS = """(key_organisation_id, occurred_at) include (
    user_id, provider, model, operation, sandbox, input_tokens, cache_read_tokens,
    cache_write_tokens, output_tokens, output_reasoning_tokens, characters, cost_microusd
) where key_organisation_id is not null"""


def upgrade() -> None:
    create_index_on_partitions("ix_ledger_entry_key_organisation", "ledger_entry", _COLUMNS)


def downgrade() -> None:
    op.drop_index("ix_ledger_entry_key_organisation", table_name="ledger_entry")
