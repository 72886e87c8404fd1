"""Everything kept about a user: what they pay for and what they have used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from uuid import UUID

from services.billing.actions.list_usage import ExportUsage
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.charge import Charge, ChargeId
from services.billing.domain.closing import Month
from services.billing.domain.correction import Correction
from services.billing.domain.invoice import CreditNote, CreditNoteId, Invoice, InvoiceId
from services.billing.domain.invoice_ports import InvoiceHead, Standing
from services.billing.domain.ledger import Entry
from services.billing.domain.outside_usage import HeldEvent
from services.billing.domain.payment import Payment, PaymentId
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.staff_look import StaffLook, StaffLookId
from services.billing.domain.subscription import Subscription
from services.billing.domain.webhook import Endpoint, EndpointOwner
from shared.ids import EventId, UserId
from shared.page_by_page import page_by_page
from shared.values import dataclass

_PAGE = 20


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data."""

    unit_of_work: NewUnitOfWork
    show_subscription: ShowSubscription
    export_usage: ExportUsage

    async def subscription(self, user_id: UserId) -> Subscription:
        return await self.show_subscription(user_id)

    async def details(self, user_id: UserId) -> BillingDetails | None:
        async with self.unit_of_work() as work:
            return await work.details.of(user_id)

    async def changes(self, user_id: UserId) -> Sequence[Subscription]:
        async with self.unit_of_work() as work:
            return await work.subscriptions.changes_of(user_id)

    def charges(self, user_id: UserId) -> AsyncIterator[Sequence[Charge]]:
        """The newest first."""

        async def read(after: ChargeId | None) -> Sequence[Charge]:
            async with self.unit_of_work() as work:
                return await work.charges.of(user_id, after=after, most=_PAGE)

        return page_by_page(read, _PAGE)

    def payments(self, user_id: UserId) -> AsyncIterator[Sequence[Payment]]:
        """The newest first."""

        async def read(before: PaymentId | None) -> Sequence[Payment]:
            async with self.unit_of_work() as work:
                return await work.payments.of(user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    async def invoices(self, user_id: UserId) -> AsyncIterator[Sequence[tuple[Invoice, Standing]]]:
        """With what became of them, the newest month first."""

        async def read(after: tuple[Month, InvoiceId] | None) -> Sequence[InvoiceHead]:
            async with self.unit_of_work() as work:
                return await work.invoices.heads(holder=user_id, after=after, most=_PAGE)

        async for heads in page_by_page(read, _PAGE, attrgetter("month", "id")):
            async with self.unit_of_work() as work:
                found = [(await work.invoices.get(head.id), head.standing) for head in heads]
            yield [(invoice, standing) for invoice, standing in found if invoice is not None]

    def credit_notes(self, user_id: UserId) -> AsyncIterator[Sequence[CreditNote]]:
        """The newest first."""

        async def read(after: CreditNoteId | None) -> Sequence[CreditNote]:
            async with self.unit_of_work() as work:
                return await work.credit_notes.of(user_id, invoice_id=None, after=after, most=_PAGE)

        return page_by_page(read, _PAGE)

    def staff_looks(self, user_id: UserId) -> AsyncIterator[Sequence[StaffLook]]:
        """The newest first."""

        async def read(before: StaffLookId | None) -> Sequence[StaffLook]:
            async with self.unit_of_work() as work:
                return await work.looks.page(holder=user_id, by=None, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    async def webhooks(self, user_id: UserId) -> Sequence[Endpoint]:
        async with self.unit_of_work() as work:
            return await work.webhooks.of(EndpointOwner("user", user_id))

    async def spend_alerts(self, user_id: UserId) -> Sequence[int]:
        async with self.unit_of_work() as work:
            return await work.spending.thresholds(user_id)

    def corrections(self, user_id: UserId) -> AsyncIterator[Sequence[Correction]]:
        """What was said about their calls later, the oldest first."""

        async def read(after: EventId | None) -> Sequence[Correction]:
            async with self.unit_of_work() as work:
                return await work.usage_rows.corrections_of_user(user_id, after=after, most=_PAGE)

        return page_by_page(read, _PAGE)

    def held(self, user_id: UserId) -> AsyncIterator[Sequence[HeldEvent]]:
        """What services outside told of them that could not be counted as it was."""

        async def read(after: tuple[UUID, str, str] | None) -> Sequence[HeldEvent]:
            async with self.unit_of_work() as work:
                return await work.outside.held_of(user_id, after=after, most=_PAGE)

        return page_by_page(read, _PAGE, attrgetter("place"))

    async def archived(self, user_id: UserId) -> int:
        """How many of their calls lie in the operator's archive, and are none of `records`."""
        return await self.export_usage.list_usage.archived(user_id, Period.between(None, None))

    def records(self, user_id: UserId) -> AsyncIterator[Sequence[Entry]]:
        """Page by page, the newest first."""
        return self.export_usage(user_id, period=Period.between(None, None), after=None, most=None)
