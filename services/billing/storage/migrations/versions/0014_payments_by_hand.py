"""What has to be ended at payment providers, and money that the billing team books by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "spare_subscription",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("noted_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_at", _MOMENT, nullable=True),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("provider", "subscription", name=op.f("pk_spare_subscription")),
    )
    op.create_index(
        "ix_spare_subscription_customer", "spare_subscription", ["provider", "customer"]
    )
    op.create_index(
        "ix_spare_subscription_waiting",
        "spare_subscription",
        ["noted_at"],
        postgresql_where=sa.text("ended_at is null"),
    )
    tries = sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False)
    op.add_column("payer", tries)
    op.add_column("payer", sa.Column("next_try_at", _MOMENT, nullable=True))
    op.add_column("payment", sa.Column("note", sa.Text(), nullable=True))
    op.add_column("payment", sa.Column("settles", sa.UUID(), nullable=True))


def downgrade() -> None:
    # An older version knows no money that was booked by hand.
    op.execute("delete from payment where note is not null")
    op.drop_column("payment", "settles")
    op.drop_column("payment", "note")
    op.drop_column("payer", "next_try_at")
    op.drop_column("payer", "tries")
    op.drop_table("spare_subscription")
