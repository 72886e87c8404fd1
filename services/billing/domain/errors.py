"""Failures that billing expects."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from shared.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired


class UsageNotAcceptable(Invalid):
    """A usage event that can't stand in the ledger; it is put aside and counts as dead."""

    code = "usage_not_acceptable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This usage can't be recorded: {reason}.", reason=reason)


class ManifestNotAcceptable(Invalid):
    """A manifest in another producer's name, or about no stream of its."""

    code = "manifest_not_acceptable"

    def __init__(self) -> None:
        super().__init__("A producer announces its own usage streams only.")


class UsageRecordNotFound(NotFound):
    """Also raised for another user's record, so that ids can't be probed."""

    code = "usage_record_not_found"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("No such usage record.", event_id=str(event_id))


class BadPeriod(Invalid):
    """A span of time that can't be read, or that no report is made for."""

    code = "bad_period"


class BadGrouping(Invalid):
    """Something that usage can't be grouped by."""

    code = "bad_grouping"

    def __init__(self, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"`group_by` lists some of {', '.join(names)}, each once.", dimensions=names
        )


class PriceNotAcceptable(Invalid):
    """A price that prices nothing."""

    code = "price_not_acceptable"

    def __init__(self) -> None:
        super().__init__("Give at least one price.")


class PriceExists(Conflict):
    """Prices are never changed: a correction is a new one, with a later time of effect."""

    code = "price_exists"

    def __init__(self, provider: str, model: str, effective_from: datetime) -> None:
        super().__init__(
            "This model already has a price from that moment on.",
            provider=provider,
            model=model,
            effective_from=effective_from.isoformat(),
        )


class UnknownTier(Invalid):
    """A tier that is not in the table."""

    code = "unknown_tier"

    def __init__(self, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(f"There is no such tier; choose one of {', '.join(names)}.", tiers=names)


class OneSeatOnly(Invalid):
    """This tier is sold by the person."""

    code = "one_seat_only"

    def __init__(self, tier: str) -> None:
        super().__init__(f"The {tier} tier has exactly one seat.", tier=tier)


class SubscriptionNotPaid(PaymentRequired):
    """The change costs more than what is paid for now."""

    code = "subscription_not_paid"

    def __init__(self, tier: str, seats: int, price_microusd_per_month: int) -> None:
        super().__init__(
            "This subscription has to be paid for first.",
            tier=tier,
            seats=seats,
            price_microusd_per_month=price_microusd_per_month,
        )


class NotBillingStaff(Forbidden):
    """Only the operator's billing team may do this."""

    code = "not_billing_staff"

    def __init__(self) -> None:
        super().__init__("Only the operator's billing team may do this.")


class SubscriptionNotFound(NotFound):
    """No such organisation, or one that the caller does not belong to: ids can't be probed."""

    code = "subscription_not_found"

    def __init__(self, organisation_id: UUID) -> None:
        super().__init__("No such organisation.", organisation_id=str(organisation_id))


class OrganisationBillingRequired(Forbidden):
    """The caller belongs to the organisation, but does not decide what it pays for."""

    code = "organisation_billing_required"

    def __init__(self) -> None:
        super().__init__("Only an owner, an admin or a billing member may do this.")
