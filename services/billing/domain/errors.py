"""Failures that billing expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    PaymentRequired,
    Unauthenticated,
    Unavailable,
)


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


class BadMonth(Invalid):
    """A month that can't be read."""

    code = "bad_month"

    def __init__(self) -> None:
        super().__init__("A month is written like `2026-11`.")


class PeriodNotOver(Conflict):
    """The month, or the time for what comes late, is not over."""

    code = "period_not_over"

    def __init__(self, month: str, closes_from: datetime) -> None:
        super().__init__(
            "This month can't be closed yet.", month=month, closes_from=closes_from.isoformat()
        )


class PeriodClosed(Conflict):
    """A month is closed once."""

    code = "period_closed"

    def __init__(self, month: str) -> None:
        super().__init__("This month is closed already, and stays so.", month=month)


class PeriodNotComplete(Conflict):
    """Something is missing or waits; a named person may waive it, with a reason."""

    code = "period_not_complete"

    def __init__(self, month: str, findings: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(
            "Not everything of this month is there and priced.",
            month=month,
            findings=list(findings),
        )


class BillingDetailsNotAcceptable(Invalid):
    """A field of the billing details that can't stand on an invoice; says which, never its text."""

    code = "billing_details_not_acceptable"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"`{field}` {reason}.", field=field)


class BillingDetailsNotFound(NotFound):
    """Nothing was told yet that an invoice could be made out to."""

    code = "billing_details_not_found"

    def __init__(self) -> None:
        super().__init__("There are no billing details yet.")


class PeriodNotFound(NotFound):
    """This month was not closed."""

    code = "period_not_found"

    def __init__(self, month: str) -> None:
        super().__init__("This month is not closed.", month=month)


class UsageNotReadable(Invalid):
    """A report of usage that is no CloudEvent and no list of them."""

    code = "usage_not_readable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TooManyReports(LimitReached):
    """A reporter that sends single events in a flood: batches carry five hundred."""

    code = "too_many_reports"

    def __init__(self, a_minute: int, retry_after: timedelta) -> None:
        super().__init__(
            f"At most {a_minute} reports a minute; a batch carries up to 500 events.",
            retry_after=retry_after,
            limit=a_minute,
        )


class TooManyDeliveries(LimitReached):
    """Somebody who has messages sent in a flood: their receiver may be somebody else's machine."""

    code = "too_many_deliveries"

    def __init__(self, a_minute: int, retry_after: timedelta) -> None:
        super().__init__(
            f"At most {a_minute} tests and redeliveries a minute.",
            retry_after=retry_after,
            limit=a_minute,
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


class TrialNotOffered(Invalid):
    """Nothing to try: this tier costs nothing, or there are no trials here."""

    code = "trial_not_offered"

    def __init__(self) -> None:
        super().__init__("There is no trial of this.")


class PaymentOutstanding(Conflict):
    """What is owed has to be paid before more is bought."""

    code = "payment_outstanding"

    def __init__(self, owed_microusd: int) -> None:
        super().__init__("Pay what is owed first.", owed_microusd=owed_microusd)


class PaymentDeclined(PaymentRequired):
    """The provider could not collect the money; nothing was changed."""

    code = "payment_declined"

    def __init__(self) -> None:
        super().__init__("The payment was declined. Nothing was changed.")


class PaymentsUnavailable(Unavailable):
    """The payment provider does not answer, or not as agreed. The same can be asked again."""

    code = "payments_unavailable"

    def __init__(self, retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__("The payment provider does not answer.", retry_after=retry_after)


class PaymentNotFound(NotFound):
    """No such payment, or one that is settled."""

    code = "payment_not_found"

    def __init__(self, payment_id: UUID) -> None:
        super().__init__("No such open payment.", payment_id=str(payment_id))


class NoPortal(Conflict):
    """Who pays without a provider has no page of one."""

    code = "no_payment_portal"

    def __init__(self) -> None:
        super().__init__("There is no payment page for this subscription.")


class SeatsAssigned(Conflict):
    """More people have seats than would be left."""

    code = "seats_assigned"

    def __init__(self, assigned: int) -> None:
        super().__init__("Free some seats first.", assigned=assigned)


class PlanPriceExists(Conflict):
    """Prices are never changed: a correction is a new one, with a later time of effect."""

    code = "plan_price_exists"

    def __init__(self, tier: str, effective_from: datetime) -> None:
        super().__init__(
            "This tier already has a price from that moment on.",
            tier=tier,
            effective_from=effective_from.isoformat(),
        )


class BadWebhookSignature(Invalid):
    """Nothing was signed with a secret of ours, lately, over these bytes."""

    code = "bad_webhook_signature"

    def __init__(self) -> None:
        super().__init__("The signature does not match.")


class UsageVoidedAlready(Conflict):
    """What was voided can't be corrected any more."""

    code = "usage_voided_already"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("This usage is voided.", event_id=str(event_id))


class UsageNotPriced(Conflict):
    """An amount of unknown price can't be adjusted; it can be voided."""

    code = "usage_not_priced"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("The price of this usage is not known yet.", event_id=str(event_id))


class AdjustmentNotAcceptable(Invalid):
    """An adjustment that changes nothing, or after which less than nothing would be left."""

    code = "adjustment_not_acceptable"

    def __init__(self) -> None:
        super().__init__("An adjustment changes something and leaves nothing below zero.")


class CorrectionNotAllowed(Forbidden):
    """A producer corrects its own usage only."""

    code = "correction_not_allowed"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("A producer corrects its own usage only.", event_id=str(event_id))


class DriftNotFound(NotFound):
    """No such drift, or one that was repaired."""

    code = "drift_not_found"

    def __init__(self, drift_id: int) -> None:
        super().__init__("There is no such drift to repair.", drift_id=drift_id)


class ArchiveUnreadable(Conflict):
    """An archived partition's file is not there or can't be read."""

    code = "archive_unreadable"

    def __init__(self, partition: str) -> None:
        super().__init__("The archive's file can't be read.", partition=partition)


class WebhooksNotOffered(NotFound):
    """No payment provider that would send any."""

    code = "webhooks_not_offered"

    def __init__(self) -> None:
        super().__init__("No payment provider is set up here.")


class BadAnalysis(Invalid):
    """An analysis that is asked for in a way that there is none of."""

    code = "bad_analysis"

    def __init__(self, parameter: str, rule: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"`{parameter}`: {rule} {', '.join(names)}", parameter=parameter, known=names
        )


class DashboardLinkOver(Unauthenticated):
    """A link that was used, is too old, or was never given out: all look the same."""

    code = "dashboard_link_over"

    def __init__(self) -> None:
        super().__init__("This link opens nothing any more. Ask for a new one.")


class DashboardClosed(Unauthenticated):
    """A browser that no link has let in, or whose time is over."""

    code = "dashboard_closed"

    def __init__(self) -> None:
        super().__init__("The dashboard is opened by a link: ask for one.")


class ExportNotFound(NotFound):
    """No such export."""

    code = "export_not_found"

    def __init__(self, export_id: UUID) -> None:
        super().__init__("No such export.", export_id=str(export_id))


class ExportTargetUnavailable(Unavailable):
    """The directory or bucket can't be written to just now; the same is tried again."""

    code = "export_target_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("The exports' target can't be written to.", reason=reason)


class ExportQueueUnavailable(Unavailable):
    """The broker can't be reached just now; the queue is looked after again soon."""

    code = "export_queue_unavailable"

    def __init__(self) -> None:
        super().__init__("The export queue can't be reached.")


class InvoiceNotFound(NotFound):
    """Also raised for somebody else's, so that ids cannot be probed."""

    code = "invoice_not_found"

    def __init__(self) -> None:
        super().__init__("No such invoice.")


class InvoiceLineNotFound(NotFound):
    """This invoice has no such line."""

    code = "invoice_line_not_found"

    def __init__(self, line_id: UUID) -> None:
        super().__init__("The invoice has no such line.", line_id=str(line_id))


class CreditNoteNotFound(NotFound):
    """Also raised for somebody else's."""

    code = "credit_note_not_found"

    def __init__(self) -> None:
        super().__init__("No such credit note.")


class PeriodNotClosed(Conflict):
    """What may still change is not invoiced."""

    code = "period_not_closed"

    def __init__(self, month: str) -> None:
        super().__init__("The month is not closed yet.", month=month)


class InvoicesOutOfOrder(Conflict):
    """Months are invoiced one after the other; usage of a late one is on a later month's."""

    code = "invoices_out_of_order"

    def __init__(self, month: str, next_month: str | None) -> None:
        super().__init__("Another month is next.", month=month, next_month=next_month)


class CreditExceedsLine(Conflict):
    """No more is credited than what is left of a line, and nothing of another sign."""

    code = "credit_exceeds_line"

    def __init__(self, line_id: UUID, left: int) -> None:
        super().__init__(
            "That is more than what is left of the line.",
            line_id=str(line_id),
            left_microusd=left,
        )


class NothingToCredit(Conflict):
    """All of it is credited already, or it comes to nothing."""

    code = "nothing_to_credit"

    def __init__(self, invoice_id: UUID) -> None:
        super().__init__("Nothing is left to credit.", invoice_id=str(invoice_id))


class CreditKeyReused(Conflict):
    """The same key with another request would be answered with what was not asked for."""

    code = "credit_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another credit note.")


class UsageFeeExists(Conflict):
    """Fees are never changed: a correction is a new one, with a later time of effect."""

    code = "usage_fee_exists"

    def __init__(self, tier: str, effective_from: datetime) -> None:
        super().__init__(
            "This tier already has a fee from that moment on.",
            tier=tier,
            effective_from=effective_from.isoformat(),
        )


class WebhookNotFound(NotFound):
    """Also raised for somebody else's webhook, so that ids can't be probed."""

    code = "webhook_not_found"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__("No such webhook.", webhook_id=str(webhook_id))


class WebhookDeliveryNotFound(NotFound):
    """Also raised for somebody else's delivery, so that ids can't be probed."""

    code = "webhook_delivery_not_found"

    def __init__(self, delivery_id: UUID) -> None:
        super().__init__("No such delivery.", delivery_id=str(delivery_id))


class WebhookUrlNotAllowed(Invalid):
    """A URL that we don't send anything to."""

    code = "webhook_url_not_allowed"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)


class UnknownWebhookType(Invalid):
    """An event type that this owner is not told of."""

    code = "unknown_webhook_type"

    def __init__(self, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(f"`types` lists some of {', '.join(names)}, each once.", types=names)


class TooManyWebhooks(Conflict):
    """There are as many as anybody may have."""

    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"There can be {most} webhooks at most.", limit=most)


class WebhookDisabled(Conflict):
    """Nothing is sent to a webhook that is disabled."""

    code = "webhook_disabled"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__("Enable this webhook first.", webhook_id=str(webhook_id))


class WebhookTestWaits(Conflict):
    """One test at a time: a receiver is not to be flooded through us."""

    code = "webhook_test_waits"

    def __init__(self) -> None:
        super().__init__("The last test is not delivered yet.")


class WebhookSecretsUnavailable(Unavailable):
    """Without its key no secret of a webhook can be kept or used."""

    code = "webhook_secrets_unavailable"

    def __init__(self) -> None:
        super().__init__("Webhooks can't be used at the moment.")
