"""Invoices, credit notes, and whom they are addressed to."""

from __future__ import annotations

from uuid import UUID

from shared.errors import Conflict, Invalid, NotFound


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
    """No more is credited than what is left of a line after its corrections and what was given back
    of its period, and nothing of another sign."""

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
