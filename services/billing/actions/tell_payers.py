"""Let payment providers collect for what is held, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.billing.domain.errors import PaymentDeclined
from services.billing.domain.payment import Payer, Wish
from services.billing.domain.ports import NewUnitOfWork, Payments

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class TellPayers:
    """Whoever was told something else than what holds now is told again, until it arrives."""

    unit_of_work: NewUnitOfWork
    payments: Payments

    async def __call__(self) -> int:
        """Answers how many were told. Raises PaymentsUnavailable."""
        async with self.unit_of_work() as work:
            waiting = await work.payments.payers_to_tell(most=_AT_ONCE)
        told = [
            await self._tell(payer, wish)
            for payer, wish in waiting
            if payer.provider == self.payments.name
        ]
        return sum(told)

    async def _tell(self, payer: Payer, wish: Wish) -> bool:
        try:
            await self.payments.tell(payer, wish)
        except PaymentDeclined:
            return False
        async with self.unit_of_work() as work:
            known = await work.payments.payer(payer.holder)
            if known is None or known.subscription != payer.subscription:
                return False
            told = replace(known, told=wish)
            if wish.ended:
                told = replace(known, subscription=None, item=None, told=None)
            await work.payments.keep_payer(told)
        return True
