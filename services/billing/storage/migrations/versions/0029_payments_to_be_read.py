"""Who reads with SQL sees what was asked for, came and went back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

# The columns stand in docs/reporting.md. No note, and of what was booked by hand no reference
# either: people wrote them.
_VIEW = """
create view reporting.payments as
select id as payment_id, holder_id, is_organisation, kind, state, provider,
       case when provider <> 'manual' then reference end as reference,
       tier, seats, unit_price_microusd, price_version, amount_microusd,
       asked_by, created_at, settled_at, settles
from payment
"""
_ROLE = "select 1 from pg_roles where rolname = 'billing_reader'"
_GRANT = "grant select on reporting.payments to billing_reader"


def upgrade() -> None:
    op.execute(_VIEW)
    # Where migrating may make no role, there may be none yet; `companion reporting grant` then
    # grants all views.
    if op.get_context().as_sql or op.get_bind().execute(sa.text(_ROLE)).scalar():
        op.execute(_GRANT)


def downgrade() -> None:
    op.execute("drop view reporting.payments")
