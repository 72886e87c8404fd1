"""Find out whether the audit trail still is what was written."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from uuid import UUID

from services.auth.domain.audit_chain import ChainWalk, Head
from services.auth.domain.ports import NewUnitOfWork, SigningKeySource
from shared.page_by_page import page_by_page
from shared.values import dataclass

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a walk along the whole chain has found; `broken` says what is wrong, as a sentence."""

    head: Head
    events: int
    waiting: int
    broken: str | None


@dataclass(frozen=True, slots=True)
class VerifyAudit:
    """Walk the chain from its first link to its last, then look for events that it leaves out.

    Page by page, each in a short transaction: new links may be added meanwhile.
    """

    unit_of_work: NewUnitOfWork
    keys: SigningKeySource

    async def __call__(self, known: Head | None = None) -> AuditVerdict:
        """`known` is a head from an earlier day, from the log or from where one was kept.

        Raises SigningKeysUnavailable.
        """
        walk = ChainWalk(self.keys.current().audit_keys, known)
        while walk.broken is None:
            async with self.unit_of_work() as work:
                page = await work.audit_chain.after(walk.head.sequence, most=_PAGE)
            walk.follow(page)
            if len(page) < _PAGE:
                walk.finish()
                break
        events, waiting, stray = await self._count()
        if walk.broken is None and stray is not None:
            walk.broken = f"Event {stray} has no link and does not wait for one."
        return AuditVerdict(walk.head, events, waiting, walk.broken)

    async def _count(self) -> tuple[int, int, UUID | None]:
        """How many events there are, how many wait for a link, and one that does neither."""
        events, waiting, stray = 0, 0, None

        async def read(last: UUID | None) -> Sequence[tuple[UUID, bool, bool]]:
            async with self.unit_of_work() as work:
                return await work.audit_chain.events_after(last, most=_PAGE)

        async for page in page_by_page(read, _PAGE, itemgetter(0)):
            for id_, is_linked, is_waiting in page:
                events += 1
                waiting += is_waiting
                if not is_linked and not is_waiting and stray is None:
                    stray = id_
        return events, waiting, stray
