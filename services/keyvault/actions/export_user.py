"""Everything kept about a user, but for what their keys hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.keyvault.actions.read_audit import ReadAudit
from services.keyvault.actions.show_keys import ListKeys
from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.provider_key import ProviderKey
from shared.ids import UserId

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data. Keys are shown as they always are."""

    list_keys: ListKeys
    read_audit: ReadAudit

    async def keys(self, user_id: UserId) -> AsyncIterator[Sequence[ProviderKey]]:
        yield await self.list_keys(by=user_id)

    async def trail(self, user_id: UserId) -> AsyncIterator[Sequence[AuditEntry]]:
        """Page by page, the newest first: no transaction waits for a slow reader."""
        before = None
        while True:
            page = await self.read_audit(by=user_id, before=before, most=_PAGE)
            yield page
            if len(page) < _PAGE:
                return
            before = page[-1].id
