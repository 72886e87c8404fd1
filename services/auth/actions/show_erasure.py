"""How far an erasure has come."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.erasure import Erasure, Receipt
from services.auth.domain.errors import ErasureNotFound
from services.auth.domain.ports import NewUnitOfWork
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowErasure:
    """For whoever has the receipt: their account can't be asked any more."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, receipt: Receipt) -> Erasure:
        """Raises ErasureNotFound."""
        async with self.unit_of_work() as work:
            erasure = await work.erasures.find(receipt.hash)
        if erasure is None:
            raise ErasureNotFound
        return erasure

    async def latest(self, *, most: int) -> Sequence[Erasure]:
        """The newest first. No route leads here."""
        async with self.unit_of_work() as work:
            return await work.erasures.latest(most=most)
