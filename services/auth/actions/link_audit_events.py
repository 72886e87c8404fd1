"""Take new audit events up into the chain."""

from __future__ import annotations

import structlog

from services.auth.domain.audit_chain import continued
from services.auth.domain.ports import NewUnitOfWork, SigningKeySource
from shared.values import dataclass

log = structlog.get_logger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class LinkAuditEvents:
    """Give every event that has none its link, in the order in which we come to see them.

    Done apart from the acts themselves, which would otherwise wait for each other.
    """

    unit_of_work: NewUnitOfWork
    keys: SigningKeySource

    async def __call__(self) -> None:
        """Raises SigningKeysUnavailable."""
        while await self._link_some() == _BATCH:
            pass

    async def _link_some(self) -> int:
        keys = self.keys.current().audit_keys
        async with self.unit_of_work() as work:
            if not await work.audit_chain.take_turn():
                return 0
            events = await work.audit_chain.unlinked(most=_BATCH)
            if not events:
                return 0
            links = continued(await work.audit_chain.head(), events, keys)
            await work.audit_chain.add(links)
        # Logs leave this machine: what they say of the chain's end can't be cut off with it.
        last = links[-1]
        log.info("audit_head", head=f"{last.sequence}:{last.mac.hex()}", linked=len(links))
        return len(links)
