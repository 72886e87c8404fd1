"""Who of the billing team looked at whose data."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_ID = postgresql.UUID(as_uuid=True)
_KEEP = """
create function keep_staff_looks() returns trigger language plpgsql as $$
begin
    raise exception 'staff looks are append-only: no % of one', lower(tg_op)
        using errcode = 'restrict_violation';
end $$;
create trigger keep_staff_looks before update or delete or truncate on staff_look
    for each statement execute function keep_staff_looks();
"""


def upgrade() -> None:
    op.create_table(
        "staff_look",
        sa.Column("id", _ID, nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_by", _ID, nullable=False),
        sa.Column("holder_id", _ID, nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_look")),
    )
    op.create_index("ix_staff_look_holder_id", "staff_look", ["holder_id", "id"])
    op.create_index("ix_staff_look_looked_by", "staff_look", ["looked_by", "id"])
    op.execute(_KEEP)


def downgrade() -> None:
    op.drop_table("staff_look")
    op.execute("drop function keep_staff_looks()")
