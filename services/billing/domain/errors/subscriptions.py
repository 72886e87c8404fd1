"""Subscriptions, seats and trials."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from shared.errors import Conflict, Forbidden, Invalid, NotFound, PaymentRequired


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

    def __init__(
        self, tier: str, seats: int, price_microusd_per_month: int, **facts: str | int
    ) -> None:
        super().__init__(
            "This subscription has to be paid for first.",
            tier=tier,
            seats=seats,
            price_microusd_per_month=price_microusd_per_month,
            **facts,
        )


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


class OwnUsageOnly(Invalid):
    """Usage, limits and alerts are asked for of an organisation, and only users have them."""

    code = "own_usage_only"

    def __init__(self) -> None:
        super().__init__(
            "Usage, limits and alerts are each user's own; there are none of an organisation."
            " Leave `organisation_id` away; what ran on an organisation's keys is at"
            " `/billing/organisations/{organisation_id}/usage`."
        )


class NothingToCancel(Conflict):
    """There is no subscription, or it ends already."""

    code = "nothing_to_cancel"

    def __init__(self) -> None:
        super().__init__("There is no subscription that could be cancelled.")


class NothingToResume(Conflict):
    """Nothing was cancelled, or it has ended meanwhile."""

    code = "nothing_to_resume"

    def __init__(self) -> None:
        super().__init__("There is no cancellation that could be taken back.")


class TrialUsed(Conflict):
    """Everybody has one trial, and none beside a subscription."""

    code = "trial_used"

    def __init__(self) -> None:
        super().__init__("The trial was used already, or there is a subscription.")


class TooManyTrialSeats(Invalid):
    """More people can try it once somebody pays."""

    code = "too_many_trial_seats"

    def __init__(self, most_seats: int) -> None:
        super().__init__("A trial has fewer seats.", most_seats=most_seats)


class TrialNotOffered(Invalid):
    """Nothing to try: this tier costs nothing, or there are no trials here."""

    code = "trial_not_offered"

    def __init__(self) -> None:
        super().__init__("There is no trial of this.")


class SeatsAssigned(Conflict):
    """More people have seats than would be left."""

    code = "seats_assigned"

    def __init__(self, assigned: int) -> None:
        super().__init__("Free some seats first.", assigned=assigned)
