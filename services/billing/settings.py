"""What may differ per deployment of billing."""

from __future__ import annotations

from pydantic import Field

from shared.settings import CommonSettings


class Settings(CommonSettings):
    """Billing's settings beside the common ones."""

    # Asked who decides about an organisation's subscription; without it nobody does.
    auth_internal_url: str | None = Field(None, validation_alias="AUTH_INTERNAL_URL")
    # Long enough for a batch that is merely late; a gap that is older is asked for.
    gap_patience_seconds: int = Field(
        15, validation_alias="BILLING_GAP_PATIENCE_SECONDS", ge=1, le=3600
    )
