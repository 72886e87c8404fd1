"""Everything kept about a user, but for what their keys hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from services.keyvault.actions.read_audit import ReadAudit
from services.keyvault.actions.show_keys import ListKeys
from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.provider_key import ProviderKey
from shared.ids import UserId
from shared.page_by_page import page_by_page
from shared.values import dataclass

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data. Keys are shown as they always are."""

    list_keys: ListKeys
    read_audit: ReadAudit

    async def keys(self, user_id: UserId) -> AsyncIterator[Sequence[ProviderKey]]:
        yield await self.list_keys(by=user_id)

    def trail(self, user_id: UserId) -> AsyncIterator[Sequence[AuditEntry]]:
        """The newest first."""

        async def read(before: UUID | None) -> Sequence[AuditEntry]:
            return await self.read_audit(by=user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)
