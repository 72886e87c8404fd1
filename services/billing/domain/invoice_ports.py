"""What invoices and credit notes need to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.charge import Charge
from services.billing.domain.closing import ClosedPeriod, Month
from services.billing.domain.correction import Correction
from services.billing.domain.crediting import CreditedSoFar
from services.billing.domain.giving_back import Family, FamilyId
from services.billing.domain.invoice import (
    CreditNote,
    CreditNoteId,
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Source,
)
from services.billing.domain.invoicing import Covered, Due, Run, Scope
from services.billing.domain.ledger import Entry
from services.billing.domain.usage_fee import UsageFee
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of an invoice, in cents. What a holder paid counts for the oldest first."""

    credited_cents: int
    paid_cents: int
    open_cents: int


@dataclass(frozen=True, slots=True)
class InvoiceHead:
    """An invoice without its lines, and what became of it."""

    id: InvoiceId
    number: str
    holder: UserId
    is_organisation: bool
    month: Month
    net_cents: int
    tax_cents: int
    total_cents: int
    carried_microusd: int
    issued_at: datetime
    due_at: datetime
    standing: Standing


@dataclass(frozen=True, slots=True)
class CoveredRecord:
    """Something that a line stands for; all but one are None. An entry whose partition was archived
    is only known by its id."""

    source_id: UUID
    aspect: str
    entry: Entry | None = None
    charge: Charge | None = None
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class InvoicedAs:
    """Where an entry, or a correction of it, stands on an invoice."""

    aspect: str
    invoice_id: InvoiceId
    number: str
    line_id: LineId
    position: int
    kind: LineKind


@dataclass(frozen=True, slots=True)
class Found:
    """What a line's sources come to by the books themselves. `line`: as it would be made of them
    today; None where they make none, or more than one. `strangers`: sources that are somebody
    else's. `archived`: entries that are in a file by now, whose costs are not compared. `family`:
    what the books say of all lines about the same money; `corrects`: the families of what a line's
    corrections correct."""

    source: Source
    sum_microusd: int  # of charges' amounts, of vendor's costs, or of rests
    archived: int
    strangers: int = 0
    line: InvoiceLine | None = None
    family: Family | None = None
    corrects: frozenset[FamilyId] = frozenset()


@dataclass(frozen=True, slots=True)
class Sums:
    """As they stand in a document's row."""

    subtotal_microusd: int
    net_cents: int
    total_cents: int
    carried_microusd: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What the books say of an invoice. `missing`: records that should be on a line of it, or are
    on one that is gone; `lost_credits`: credited lines of a note that is gone."""

    sums: Sums
    lines: Mapping[LineId, Found]
    notes: Mapping[CreditNoteId, Sums]
    missing: int
    lost_credits: int


class InvoiceRuns(Protocol):
    """How far the invoices of months have come."""

    async def next_closed(self) -> ClosedPeriod | None:
        """The month that is to be invoiced next, where it is closed."""
        ...

    async def next_name(self) -> str | None:
        """What month is next, closed or not; None before the first one was closed."""
        ...

    async def get(self, month: Month) -> Run | None: ...
    async def last(self) -> Run | None: ...
    async def unfinished(self) -> Run | None: ...

    async def take_turn(self) -> None:
        """Nobody else begins a run, of whatever month, until the work ends."""
        ...

    async def begin(
        self, scope: Scope, *, at: datetime, by: UserId | None, aged_after: timedelta | None
    ) -> bool:
        """Put everybody who gets an invoice on the list; False when it was begun already. What came
        later after its use than `aged_after` waits for two people (see `AgedUsages`)."""
        ...

    async def hold(self, month: Month) -> Run | None:
        """Nobody else works on it until the work ends."""
        ...

    async def take(self, month: Month, *, most: int) -> Sequence[Due]:
        """The next ones, who are off the list with the end of the work."""
        ...

    async def went_on(
        self, month: Month, *, invoices: int, finished_at: datetime | None
    ) -> None: ...


class Invoices(Protocol):
    """Invoices with their lines and what those cover: appended, never changed."""

    async def cover(
        self, scope: Scope, dues: Sequence[Due], *, keep: bool, aged_after: timedelta | None
    ) -> Covered:
        """What these holders' invoices are made of; with `keep` it stands on them from now on, and
        nobody issues credit notes of theirs until the work ends. What stands on one already fails
        the work. Corrections of what waits for two people wait, too."""
        ...

    async def late(
        self, scope: Scope, holder: UserId, *, aged_after: timedelta | None
    ) -> Sequence[UUID]:
        """A holder's entries from before the scope's month began that came in its time, or were
        released by two people since."""
        ...

    async def details(self, holders: Sequence[UserId]) -> Mapping[UserId, BillingDetails]: ...

    async def first_number(self, series: str, year: int, *, count: int) -> int:
        """The first of so many numbers that nobody else gets; if the work fails, they are free."""
        ...

    async def add(self, invoices: Sequence[Invoice]) -> None: ...

    async def get(self, invoice_id: InvoiceId) -> Invoice | None: ...

    async def hold(self, invoice_id: InvoiceId) -> Invoice | None:
        """Nobody else credits it until the work ends."""
        ...

    async def of_month(self, holder: UserId, month: Month) -> Invoice | None: ...

    async def standing(self, invoice_id: InvoiceId) -> Standing: ...

    async def heads(
        self,
        *,
        holder: UserId | None = None,
        month: Month | None = None,
        after: tuple[Month, InvoiceId] | None = None,
        most: int,
    ) -> Sequence[InvoiceHead]:
        """The newest month first."""
        ...

    async def records(
        self, line_id: LineId, *, after: UUID | None, most: int
    ) -> Sequence[CoveredRecord]:
        """By their ids."""
        ...

    async def invoiced_as(self, ids: Sequence[UUID]) -> Sequence[InvoicedAs]: ...

    async def proof(self, invoice: Invoice) -> Proof:
        """What the books say of it."""
        ...


class CreditNotes(Protocol):
    """Credit notes: appended, never changed."""

    async def by_key(self, invoice_id: InvoiceId, key: str) -> tuple[CreditNote, str] | None:
        """With the digest of the request that it answered."""
        ...

    async def credited(self, invoice: Invoice) -> CreditedSoFar:
        """What was credited of it. Nobody adds to its holder's books until the work ends."""
        ...

    async def add(self, note: CreditNote, *, key: str, digest: str) -> None: ...

    async def get(self, note_id: CreditNoteId) -> CreditNote | None: ...

    async def of(
        self,
        holder: UserId | None,
        *,
        invoice_id: InvoiceId | None,
        after: CreditNoteId | None,
        most: int,
    ) -> Sequence[CreditNote]:
        """The newest first."""
        ...


class UsageFees(Protocol):
    """What the operator charges for usage."""

    async def all(self) -> Sequence[UsageFee]: ...

    async def add(self, fee: UsageFee) -> bool:
        """False when the tier has a fee from that moment on."""
        ...
