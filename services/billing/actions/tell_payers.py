"""Let payment providers collect for what is held, and for nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import structlog

from services.billing.domain.calendar import whole_second
from services.billing.domain.errors import PaymentDeclined, PaymentsUnavailable
from services.billing.domain.payment import Payer, Wish
from services.billing.domain.ports import NewUnitOfWork, Payments
from shared.clock import Clock
from shared.values import dataclass

log = structlog.get_logger(__name__)

_AT_ONCE = 100
# So many in a row, and it is the payment provider that is away, not a payer whom it refuses.
_MOST_FAILURES = 5
_END = Wish("", 1, ending=True, ended=True)


@dataclass(frozen=True, slots=True)
class TellPayers:
    """Whoever was told something else than what holds now is told again, until it arrives; what
    nobody needs is ended. One that is refused holds up nobody: it waits, each time longer."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    payments: Payments

    async def __call__(self) -> int:
        """Answers how many were told. Raises PaymentsUnavailable at the end, when the payment
        provider could not be told of somebody."""
        told = in_a_row = 0
        failed: PaymentsUnavailable | None = None
        async for payer, wish, is_spare in self._waiting():
            try:
                told += await self._told(payer, wish, is_spare=is_spare)
                in_a_row = 0
            except PaymentsUnavailable as failure:
                failed = failure
                in_a_row += 1
                # Without the cause, whose words are the provider's.
                log.warning("payer_not_told", holder=str(payer.holder), ends=wish.ended)
                if in_a_row == _MOST_FAILURES:
                    break
        if failed is not None:
            raise failed
        return told

    async def _waiting(self) -> AsyncIterator[tuple[Payer, Wish, bool]]:
        name, now = self.payments.name, self.clock.now()
        async with self.unit_of_work() as work:
            spares = await work.payments.spares(name, now, most=_AT_ONCE)
            waiting = await work.payments.payers_to_tell(name, now, most=_AT_ONCE)
        for spare in spares:
            yield spare, _END, True
        for payer, wish in waiting:
            yield payer, wish, False

    def _since(self, known: Payer) -> datetime:
        """What happened at the payment provider's before it was told says nothing any more."""
        now = whole_second(self.clock.now())
        return now if known.last_told_at is None else max(now, known.last_told_at)

    async def _told(self, payer: Payer, wish: Wish, *, is_spare: bool) -> bool:
        try:
            await self.payments.tell(payer, wish)
        except (PaymentDeclined, PaymentsUnavailable) as failure:
            async with self.unit_of_work() as work:
                put_off = work.payments.put_off_spare if is_spare else work.payments.put_off
                await put_off(payer, self.clock.now())
            if isinstance(failure, PaymentDeclined):
                return False
            raise
        async with self.unit_of_work() as work:
            if is_spare:
                await work.payments.spare_ended(payer, self.clock.now())
                return True
            known = await work.payments.hold_payer(payer.holder)
            if known is None or known.subscription != payer.subscription:
                return False
            told = replace(known, last_told_at=self._since(known))
            await work.payments.keep_payer(_after(told, wish))
        return True


def _after(known: Payer, wish: Wish) -> Payer:
    if wish.ended:
        return replace(known, subscription=None, item=None, told=None)
    if wish.ending and known.told is not None:
        # Of one that ends, the end alone is told.
        return replace(known, told=replace(known.told, ending=True))
    return replace(known, told=wish)
