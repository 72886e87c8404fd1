"""How users want their voices to speak, and the voices that they had made."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None: ...


def downgrade() -> None: ...
