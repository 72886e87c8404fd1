"""What may differ per deployment of billing."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from services.billing.domain.countries import COUNTRIES
from services.billing.domain.export_target import check_target
from services.billing.domain.seller import Seller
from shared.settings import CommonSettings, HttpUrl
from shared.tiers import TIERS

_Line = Annotated[str, Field(min_length=1, max_length=200)]


class SellerSetting(BaseModel):
    """Who sells, from a day on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Line
    since: date = Field(date.min, alias="from")
    address_lines: tuple[_Line, ...] = Field((), max_length=8)
    country: str | None = None
    tax_ids: dict[_Line, _Line] = Field(default_factory=dict, max_length=8)
    bank_lines: tuple[_Line, ...] = Field((), max_length=8)
    contact_lines: tuple[_Line, ...] = Field((), max_length=8)

    @field_validator("country")
    @classmethod
    def _is_known(cls, code: str | None) -> str | None:
        if code is not None and code not in COUNTRIES:
            raise ValueError("country is a code of two letters of ISO 3166-1")
        return code

    @property
    def seller(self) -> Seller:
        return Seller(
            name=self.name,
            address_lines=self.address_lines,
            country=self.country,
            tax_ids=tuple(self.tax_ids.items()),
            bank_lines=self.bank_lines,
            contact_lines=self.contact_lines,
            since=self.since,
        )


class Settings(CommonSettings):
    """Billing's settings beside the common ones."""

    # Asked who decides about an organisation's subscription; without it nobody does.
    auth_internal_url: HttpUrl | None = Field(None, validation_alias="AUTH_INTERNAL_URL")
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

    # What one request costs the operator, for the margin. Vendors are paid with the users' keys.
    request_cost_microusd: int = Field(
        0, validation_alias="BILLING_REQUEST_COST_MICROUSD", ge=0, le=1_000_000_000
    )

    # A queue of the broker that gets a copy of all usage messages, for a consumer of the
    # operator's. Off, since one that nobody reads fills up to its limits.
    export_queue: bool = Field(False, validation_alias="BILLING_EXPORT_QUEUE")
    export_queue_most_messages: int = Field(
        100_000, validation_alias="BILLING_EXPORT_QUEUE_MOST_MESSAGES", ge=100, le=10_000_000
    )
    # Where each day is written once it is over; unset: nowhere.
    export_target: str | None = Field(None, validation_alias="BILLING_EXPORT_TARGET")
    export_formats: str = Field(
        "parquet",
        validation_alias="BILLING_EXPORT_FORMATS",
        pattern=r"^(csv|ndjson|parquet)(,(csv|ndjson|parquet)){0,2}$",
    )

    # The key that webhooks' secrets are sealed with; without it there are no webhooks.
    webhook_keys_file: Path | None = Field(None, validation_alias="BILLING_WEBHOOK_KEYS_FILE")
    # Receivers on this machine or in its network, and http; unset: in a sandbox alone.
    webhooks_allow_local: bool | None = Field(None, validation_alias="BILLING_WEBHOOKS_ALLOW_LOCAL")

    # Who sells, as documents show it: one object, or one for each day from which another holds.
    sellers: tuple[SellerSetting, ...] = Field((), validation_alias="BILLING_SELLER")
    # Unset: no tax is worked out.
    tax_file: Path | None = Field(None, validation_alias="BILLING_TAX_FILE")
    # Font files, parted by commas, for scripts that PDF documents would lack otherwise.
    font_files: str = Field("", validation_alias="BILLING_FONT_FILES")

    # No trials with 0.
    trial_days: int = Field(14, validation_alias="BILLING_TRIAL_DAYS", ge=0, le=365)
    trial_seats: int = Field(10, validation_alias="BILLING_TRIAL_SEATS", ge=1, le=10_000)
    # When a payment that failed is tried again, in days after it was first asked for.
    dunning_days: str = Field(
        "1,3,5,7", validation_alias="BILLING_DUNNING_DAYS", pattern=r"^\d{1,2}(,\d{1,2}){0,9}$"
    )
    grace_days: int = Field(10, validation_alias="BILLING_GRACE_DAYS", ge=1, le=27)
    # How long a transfer may take; a checkout page ends when the payment provider says so.
    order_days: int = Field(30, validation_alias="BILLING_ORDER_DAYS", ge=1, le=365)
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

    @property
    def tells_local_webhooks(self) -> bool:
        """Whether webhooks may reach this machine and its network."""
        return self.sandbox if self.webhooks_allow_local is None else self.webhooks_allow_local

    # What invoice numbers begin with, as in `TT-2026-000001`. Another one begins another series.
    invoice_prefix: str = Field(
        "TT", validation_alias="BILLING_INVOICE_PREFIX", pattern=r"^[A-Z0-9]{1,10}$"
    )
    # Usage that came longer after it was used, into a closed month, waits for two people. 0: none.
    aged_usage_days: int = Field(35, validation_alias="BILLING_AGED_USAGE_DAYS", ge=0, le=400)
    invoice_due_days: int = Field(14, validation_alias="BILLING_INVOICE_DUE_DAYS", ge=0, le=365)

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

    @field_validator("sellers", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, dict) else given

    @field_validator("sellers")
    @classmethod
    def _days_differ(cls, sellers: tuple[SellerSetting, ...]) -> tuple[SellerSetting, ...]:
        if len({seller.since for seller in sellers}) < len(sellers):
            raise ValueError("BILLING_SELLER has two sellers from the same day on")
        return sellers

    @field_validator("export_target")
    @classmethod
    def _target_can_be_read(cls, url: str | None) -> str | None:
        if url is not None:
            check_target(url)
        return url
