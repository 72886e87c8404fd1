"""Voices that an organisation's key made are known as such, and outlast their user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.db.migrations import create_index_concurrently

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cloned_voice", sa.Column("organisation_id", sa.UUID()), if_not_exists=True)
    create_index_concurrently("ix_cloned_voice_voice_id", "cloned_voice", "voice_id")
    create_index_concurrently(
        "ix_cloned_voice_organisation_id",
        "cloned_voice",
        "organisation_id",
        where="organisation_id is not null",
    )


def downgrade() -> None:
    op.drop_index("ix_cloned_voice_organisation_id", table_name="cloned_voice")
    op.drop_index("ix_cloned_voice_voice_id", table_name="cloned_voice")
    op.execute("delete from cloned_voice where user_id = organisation_id")
    op.drop_column("cloned_voice", "organisation_id")
