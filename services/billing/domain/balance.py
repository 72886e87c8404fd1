"""What a holder owes, by the books: invoices are in micro-dollars and cents, payments in cents."""

from __future__ import annotations

from typing import Protocol

from services.billing.domain.tax import MICRODOLLARS_A_CENT
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """The sums of a holder's books, none of them negative but what is not invoiced yet.

    `paid` is what payment providers say that they collected, or the billing team has seen;
    `returned` went back by refunds and disputes. `uninvoiced` are charges that the next invoice
    will have, `carried` is what documents left over of whole cents for it; both are before tax.
    """

    invoiced_cents: int = 0
    credited_cents: int = 0
    paid_microusd: int = 0
    returned_microusd: int = 0
    uninvoiced_microusd: int = 0
    carried_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """What is owed for documents that were issued; negative: what was paid beyond them.

    `expected_microusd`: the same once the next invoice has come, before its tax and usage. Whoever
    paid for a period ahead has a negative balance until that period is invoiced, and expects none.
    """

    account: Account
    owed_microusd: int
    expected_microusd: int


class Accounts(Protocol):
    """The books' sums."""

    async def of(self, holder: UserId) -> Account:
        """As they all are at one moment."""
        ...


def balance_of(account: Account) -> Balance:
    """Invoices less credit notes less payments. Nothing is rounded: what a payment provider
    collected in cents differs from what was charged in micro-dollars, and the difference stays
    until a payment makes it good."""
    billed = (account.invoiced_cents - account.credited_cents) * MICRODOLLARS_A_CENT
    owed = billed - account.paid_microusd + account.returned_microusd
    return Balance(account, owed, owed + account.uninvoiced_microusd + account.carried_microusd)
