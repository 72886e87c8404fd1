"""Payments, and those who take them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from shared.errors import Conflict, Invalid, LimitReached, NotFound, PaymentRequired, Unavailable


class TooManyDeliveries(LimitReached):
    """Somebody who has messages sent in a flood: their receiver may be somebody else's machine."""

    code = "too_many_deliveries"

    def __init__(self, a_minute: int, retry_after: timedelta) -> None:
        super().__init__(
            f"At most {a_minute} tests and redeliveries a minute.",
            retry_after=retry_after,
            limit=a_minute,
        )


class PaymentOutstanding(Conflict):
    """What is owed has to be paid before more is bought."""

    code = "payment_outstanding"

    def __init__(self, owed_microusd: int) -> None:
        super().__init__("Pay what is owed first.", owed_microusd=owed_microusd)


class PaymentDeclined(PaymentRequired):
    """The payment provider could not collect the money; nothing was changed."""

    code = "payment_declined"

    def __init__(self) -> None:
        super().__init__("The payment was declined. Nothing was changed.")


class PaymentsUnavailable(Unavailable):
    """The payment provider does not answer, or not as agreed. The same can be asked again."""

    code = "payments_unavailable"

    def __init__(self, retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__("The payment provider does not answer.", retry_after=retry_after)


class PaymentNotFound(NotFound):
    """No such payment, or none that could be meant."""

    code = "payment_not_found"

    def __init__(self, payment_id: UUID) -> None:
        super().__init__("No such payment.", payment_id=str(payment_id))


class PaymentSettled(Conflict):
    """The payment is there, and nobody waits for its money any more: somebody marked it as paid
    before, or it was never to be paid by a transfer. Says what stands in the books."""

    code = "payment_settled"

    def __init__(
        self, payment_id: UUID, state: str, amount_microusd: int, settled_at: datetime | None
    ) -> None:
        super().__init__(
            "That payment can't be marked as paid any more.",
            payment_id=str(payment_id),
            state=state,
            amount_microusd=amount_microusd,
            settled_at=settled_at,
        )


class HolderNotFound(NotFound):
    """Nothing is known of this holder: no subscription, no charge, no document."""

    code = "holder_not_found"

    def __init__(self, holder_id: UUID) -> None:
        super().__init__("Nothing is known of this holder.", holder_id=str(holder_id))


class PaymentReferenceUsed(Conflict):
    """Each payment is booked once; under this reference another one was."""

    code = "payment_reference_used"

    def __init__(self, reference: str) -> None:
        super().__init__("Another payment was booked under this reference.", reference=reference)


class NoPortal(Conflict):
    """Who pays without a payment provider has no page of one."""

    code = "no_payment_portal"

    def __init__(self) -> None:
        super().__init__("There is no payment page for this subscription.")


class BadWebhookSignature(Invalid):
    """Nothing was signed with a secret of ours, lately, over these bytes."""

    code = "bad_webhook_signature"

    def __init__(self) -> None:
        super().__init__("The signature does not match.")
