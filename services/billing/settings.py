"""What may differ per deployment of billing."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from shared.settings import CommonSettings
from shared.tiers import TIERS


class Settings(CommonSettings):
    """Billing's settings beside the common ones."""

    # Asked who decides about an organisation's subscription; without it nobody does.
    auth_internal_url: str | None = Field(None, validation_alias="AUTH_INTERNAL_URL")
    # Long enough for a batch that is merely late; a gap that is older is asked for.
    gap_patience_seconds: int = Field(
        15, validation_alias="BILLING_GAP_PATIENCE_SECONDS", ge=1, le=3600
    )
    # Unset: the ledger stays in the database for ever. Producers answer for 90 days what is asked
    # for again, and what comes for an archived day is refused.
    ledger_retention_days: int | None = Field(
        None, validation_alias="BILLING_LEDGER_RETENTION_DAYS", ge=95, le=400
    )
    ledger_archive_dir: Path | None = Field(None, validation_alias="BILLING_LEDGER_ARCHIVE_DIR")

    # No trials with 0.
    trial_days: int = Field(14, validation_alias="BILLING_TRIAL_DAYS", ge=0, le=365)
    # When a payment that failed is tried again, in days after it was first asked for.
    dunning_days: str = Field(
        "1,3,5,7", validation_alias="BILLING_DUNNING_DAYS", pattern=r"^\d{1,2}(,\d{1,2}){0,9}$"
    )
    grace_days: int = Field(10, validation_alias="BILLING_GRACE_DAYS", ge=1, le=27)
    # Without a key Stripe is not offered, and the billing team marks what is paid.
    stripe_api_key: SecretStr | None = Field(None, validation_alias="STRIPE_API_KEY")
    # Several while one is exchanged for another, parted by commas.
    stripe_webhook_secrets: SecretStr | None = Field(
        None, validation_alias="STRIPE_WEBHOOK_SECRETS"
    )
    stripe_prices: dict[str, str] = Field(default_factory=dict, validation_alias="STRIPE_PRICES")
    stripe_api_base: str = Field(
        "https://api.stripe.com", validation_alias="STRIPE_API_BASE", pattern=r"^https?://[^\s]+$"
    )
    stripe_return_url: str | None = Field(
        None, validation_alias="STRIPE_RETURN_URL", pattern=r"^https?://[^\s]+$"
    )

    @model_validator(mode="after")
    def _stripe_is_whole(self) -> Self:
        if self.stripe_api_key is None:
            return self
        if self.stripe_webhook_secrets is None or self.stripe_return_url is None:
            raise ValueError("STRIPE_API_KEY needs STRIPE_WEBHOOK_SECRETS and STRIPE_RETURN_URL")
        paid = {tier.name for tier in TIERS.values() if tier.price_microusd_per_seat_month}
        if paid - set(self.stripe_prices):
            raise ValueError("STRIPE_PRICES names a price of each tier that is sold")
        return self

    @model_validator(mode="after")
    def _archive_has_its_place(self) -> Self:
        if self.ledger_retention_days is not None and self.ledger_archive_dir is None:
            raise ValueError("BILLING_LEDGER_RETENTION_DAYS needs BILLING_LEDGER_ARCHIVE_DIR")
        return self
