"""Through which client's sign-in a personal token was made; whose codes are not used yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.db.migrations import create_index_concurrently

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "personal_token", sa.Column("client_id", sa.Text(), nullable=True), if_not_exists=True
    )
    create_index_concurrently(
        "ix_authorization_code_unused", "authorization_code", "user_id", where="used_at is null"
    )
    create_index_concurrently(
        "ix_personal_token_of_client",
        "personal_token",
        "client_id",
        where="client_id is not null and revoked_at is null",
    )


def downgrade() -> None:
    op.drop_index("ix_personal_token_of_client", table_name="personal_token")
    op.drop_index("ix_authorization_code_unused", table_name="authorization_code")
    op.drop_column("personal_token", "client_id")
